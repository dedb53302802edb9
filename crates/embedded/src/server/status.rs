//! Failures as the API says them: `Status` objects with the wording of a real server.

use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::kinds::{DecodeError, FieldError, Resource};
use crate::store::{Expired, WriteError};

/// A failed request, as its `Status` will say it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    pub(crate) code: StatusCode,
    pub(crate) message: String,
    /// `None` leaves it out (as a real server does for some 500s).
    pub(crate) reason: Option<&'static str>,
    /// `None` leaves it out; often an empty object.
    pub(crate) details: Option<Value>,
    /// Answered as plain text instead of a `Status`.
    pub(crate) plain: bool,
    /// A token with which a list can be gone on with all the same.
    pub(crate) again: Option<String>,
}

impl Failure {
    fn new(
        code: StatusCode,
        reason: &'static str,
        message: impl Into<String>,
        details: Option<Value>,
    ) -> Self {
        Self {
            code,
            message: message.into(),
            reason: Some(reason),
            details,
            plain: false,
            again: None,
        }
    }

    /// The `Status` object.
    pub(crate) fn body(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code.as_u16(),
        });
        if let Some(fields) = status.as_object_mut() {
            if let Some(reason) = self.reason {
                fields.insert("reason".to_owned(), Value::from(reason));
            }
            if let Some(details) = &self.details {
                fields.insert("details".to_owned(), details.clone());
            }
            if let Some(token) = &self.again {
                fields.insert("metadata".to_owned(), json!({ "continue": token }));
            }
        }
        status
    }

    /// A list of a revision that is forgotten.
    pub(crate) fn list_expired() -> Self {
        let message = "The resourceVersion for the provided list is too old.";
        Self::new(StatusCode::GONE, "Expired", message, None)
    }

    /// The next page of a list whose revision is forgotten; the token goes on in what there is now.
    pub(crate) fn page_expired(token: &str) -> Self {
        let message = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";
        Self {
            again: Some(token.to_owned()),
            ..Self::new(StatusCode::GONE, "Expired", message, None)
        }
    }

    /// A path that nothing is served at.
    pub(crate) fn no_page() -> Self {
        Self {
            code: StatusCode::NOT_FOUND,
            message: "404 page not found\n".to_owned(),
            reason: Some("NotFound"),
            details: None,
            plain: true,
            again: None,
        }
    }

    /// A resource or subresource that is not served in a known group.
    pub(crate) fn no_resource() -> Self {
        let message = "the server could not find the requested resource";
        Self::new(StatusCode::NOT_FOUND, "NotFound", message, Some(json!({})))
    }

    pub(crate) fn not_found(resource: &dyn Resource, name: &str) -> Self {
        let message = format!(
            "{} \"{name}\" not found",
            qualified(resource.plural(), resource.group())
        );
        Self::new(
            StatusCode::NOT_FOUND,
            "NotFound",
            message,
            Some(plural_details(resource, name)),
        )
    }

    pub(crate) fn no_namespace(name: &str) -> Self {
        let details = json!({"name": name, "kind": "namespaces"});
        Self::new(
            StatusCode::NOT_FOUND,
            "NotFound",
            format!("namespaces \"{name}\" not found"),
            Some(details),
        )
    }

    pub(crate) fn exists(resource: &dyn Resource, name: &str) -> Self {
        let message = format!(
            "{} \"{name}\" already exists",
            qualified(resource.plural(), resource.group())
        );
        Self::new(
            StatusCode::CONFLICT,
            "AlreadyExists",
            message,
            Some(plural_details(resource, name)),
        )
    }

    /// The name is taken by an object that is on its way out.
    pub(crate) fn exists_still(resource: &dyn Resource, name: &str) -> Self {
        let mut failure = Self::exists(resource, name);
        failure.message = format!("object is being deleted: {}", failure.message);
        failure
    }

    pub(crate) fn modified(resource: &dyn Resource, name: &str) -> Self {
        let cause = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(resource, name, cause)
    }

    pub(crate) fn conflict(resource: &dyn Resource, name: &str, cause: &str) -> Self {
        let object = qualified(resource.plural(), resource.group());
        let message = format!("Operation cannot be fulfilled on {object} \"{name}\": {cause}");
        Self::new(
            StatusCode::CONFLICT,
            "Conflict",
            message,
            Some(plural_details(resource, name)),
        )
    }

    /// A deletion's precondition that does not hold; the real server names the kind here, not the resource.
    pub(crate) fn precondition(resource: &dyn Resource, name: &str, cause: &str) -> Self {
        let object = qualified(resource.kind(), resource.group());
        let message = format!("Operation cannot be fulfilled on {object} \"{name}\": {cause}");
        Self::new(
            StatusCode::CONFLICT,
            "Conflict",
            message,
            Some(kind_details(resource, name)),
        )
    }

    /// A server-side apply that would take fields of other managers.
    pub(crate) fn apply_conflict(message: String, causes: &[Value]) -> Self {
        Self::new(
            StatusCode::CONFLICT,
            "Conflict",
            message,
            Some(json!({"causes": causes})),
        )
    }

    pub(crate) fn forbidden(
        resource: &dyn Resource,
        name: &str,
        cause: &str,
        causes: Vec<Value>,
    ) -> Self {
        let message = format!(
            "{} \"{name}\" is forbidden: {cause}",
            qualified(resource.plural(), resource.group())
        );
        let mut details = plural_details(resource, name);
        if let Some(details) = details.as_object_mut()
            && !causes.is_empty()
        {
            details.insert("causes".to_owned(), Value::Array(causes));
        }
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message, Some(details))
    }

    /// What somebody without a credential is told.
    pub(crate) fn anonymous(message: String, plural: Option<&str>) -> Self {
        let details = plural.map_or_else(|| json!({}), |plural| json!({"kind": plural}));
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message, Some(details))
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message, None)
    }

    pub(crate) fn invalid(resource: &dyn Resource, name: &str, errors: &[FieldError]) -> Self {
        let mut details = kind_details(resource, name);
        if let Some(details) = details.as_object_mut() {
            details.insert("causes".to_owned(), causes(errors));
        }
        let object = qualified(resource.kind(), resource.group());
        let message = format!("{object} \"{name}\" is invalid: {}", summary(errors));
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "Invalid",
            message,
            Some(details),
        )
    }

    /// A replace of a custom resource must say which version it replaces.
    pub(crate) fn without_version(resource: &dyn Resource, name: &str) -> Self {
        let error = FieldError {
            reason: "FieldValueInvalid",
            field: "metadata.resourceVersion".to_owned(),
            message: "Invalid value: 0: must be specified for an update".to_owned(),
        };
        let mut details = plural_details(resource, name);
        if let Some(details) = details.as_object_mut() {
            details.insert("causes".to_owned(), causes(std::slice::from_ref(&error)));
        }
        let object = qualified(resource.plural(), resource.group());
        let message = format!("{object} \"{name}\" is invalid: {}", summary(&[error]));
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "Invalid",
            message,
            Some(details),
        )
    }

    /// Wrong options of a request, for instance `ListOptions`.
    pub(crate) fn invalid_options(kind: &str, errors: &[FieldError]) -> Self {
        let details = json!({"group": "meta.k8s.io", "kind": kind, "causes": causes(errors)});
        let message = format!("{kind}.meta.k8s.io \"\" is invalid: {}", summary(errors));
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "Invalid",
            message,
            Some(details),
        )
    }

    /// A JSON patch that cannot be applied to this object.
    pub(crate) fn unprocessable() -> Self {
        let message = "the server rejected our request due to an error in our request";
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "Invalid",
            message,
            Some(json!({})),
        )
    }

    pub(crate) fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            message,
            Some(json!({})),
        )
    }

    pub(crate) fn not_acceptable() -> Self {
        let message = "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, \
                       application/vnd.kubernetes.protobuf";
        Self::new(
            StatusCode::NOT_ACCEPTABLE,
            "NotAcceptable",
            message,
            Some(json!({})),
        )
    }

    /// A patch of a media type that is none.
    pub(crate) fn unsupported_patch() -> Self {
        let message = "415: Unsupported Media Type";
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UnsupportedMediaType",
            message,
            Some(json!({})),
        )
    }

    /// A media type that this resource does not take.
    pub(crate) fn unsupported_media(accepted: &str) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {accepted}"
        );
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UnsupportedMediaType",
            message,
            None,
        )
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        let message = format!("Request entity too large: limit is {limit}");
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            message,
            Some(json!({})),
        )
    }

    /// A revision that this server has not reached.
    pub(crate) fn future_version(asked: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        let cause =
            json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"});
        let details = json!({"causes": [cause], "retryAfterSeconds": 1});
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "Timeout",
            message,
            Some(details),
        )
    }

    /// A malformed version in a watch is a 500 without a reason, as the real server has it.
    pub(crate) fn malformed_version(text: &str) -> Self {
        Self::unexplained(format!(
            "resourceVersion: Invalid value: \"{text}\": strconv.ParseUint: parsing \"{text}\": invalid syntax"
        ))
    }

    /// What the real server answers with a 500 without a reason, though it is the request that is wrong.
    pub(crate) fn unexplained(message: impl Into<String>) -> Self {
        Self {
            code: StatusCode::INTERNAL_SERVER_ERROR,
            message: message.into(),
            reason: None,
            details: None,
            plain: false,
            again: None,
        }
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        let message = format!("Internal error occurred: {}", message.into());
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalError",
            message,
            Some(json!({})),
        )
    }

    /// Another writer came first; `name` is of the resource written.
    pub(crate) fn write(resource: &dyn Resource, name: &str, error: &WriteError) -> Self {
        match error {
            WriteError::Exists { .. } => Self::exists(resource, name),
            WriteError::Changed { .. } => Self::modified(resource, name),
            WriteError::Database { .. } | WriteError::Closed => Self::internal(error.to_string()),
        }
    }
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Self {
        let code = StatusCode::from_u16(error.code).unwrap_or(StatusCode::BAD_REQUEST);
        Self::new(code, error.reason, error.message, None)
    }
}

impl From<Expired> for Failure {
    fn from(expired: Expired) -> Self {
        Self::new(StatusCode::GONE, "Expired", expired.to_string(), None)
    }
}

/// `jobs.batch`; the core group is not named.
pub(crate) fn qualified(name: &str, group: &str) -> String {
    if group.is_empty() {
        name.to_owned()
    } else {
        format!("{name}.{group}")
    }
}

fn plural_details(resource: &dyn Resource, name: &str) -> Value {
    details(resource.plural(), resource.group(), name)
}

fn kind_details(resource: &dyn Resource, name: &str) -> Value {
    details(resource.kind(), resource.group(), name)
}

fn details(kind: &str, group: &str, name: &str) -> Value {
    let mut details = Map::new();
    for (key, value) in [("name", name), ("group", group), ("kind", kind)] {
        if !value.is_empty() {
            details.insert(key.to_owned(), Value::from(value));
        }
    }
    Value::Object(details)
}

fn causes(errors: &[FieldError]) -> Value {
    let cause = |error: &FieldError| json!({"reason": error.reason, "message": error.message, "field": error.field});
    Value::Array(errors.iter().map(cause).collect())
}

/// Every fault once, in brackets when there are several.
fn summary(errors: &[FieldError]) -> String {
    let mut parts: Vec<String> = Vec::new();
    for error in errors {
        let part = format!("{}: {}", error.field, error.message);
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    match parts.as_slice() {
        [part] => part.clone(),
        _ => format!("[{}]", parts.join(", ")),
    }
}
