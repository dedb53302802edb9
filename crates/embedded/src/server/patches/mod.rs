//! The four ways to say a change: JSON patch, merge patch, strategic merge patch, apply.

mod strategic;

use jiff::Timestamp;
use serde_json::Value;

use super::{
    change::{Wanted, check_name},
    dispatch::Call,
    managed, metadata,
    route::Target,
    status::Failure,
};
use crate::kinds::{FieldError, Resource};

const PATCHES_OF_CUSTOM_RESOURCES: &str =
    "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";

/// A patch that was read, ready to be applied to any state.
pub(crate) enum Patch {
    Json(json_patch::Patch),
    Merge(Value),
    Strategic(Value),
    Apply(Applied),
}

/// What somebody applies.
#[derive(Clone, Debug)]
pub(crate) struct Applied {
    pub(crate) config: Value,
    pub(crate) manager: String,
    /// Takes fields of other managers.
    pub(crate) force: bool,
    /// Whether it is the status that is applied.
    pub(crate) status: bool,
    pub(crate) warnings: Vec<String>,
}

impl Patch {
    pub(crate) fn read(call: &Call, target: &Target) -> Result<Self, Failure> {
        let media_type = call
            .content_type
            .split(';')
            .next()
            .unwrap_or_default()
            .trim();
        match media_type {
            "application/json-patch+json" => read_json_patch(call),
            "application/merge-patch+json" => Ok(Self::Merge(read_json(call)?)),
            "application/strategic-merge-patch+json" if target.resource.strategic() => {
                Ok(Self::Strategic(read_json(call)?))
            }
            "application/strategic-merge-patch+json" => {
                Err(Failure::unsupported_media(PATCHES_OF_CUSTOM_RESOURCES))
            }
            "application/apply-patch+yaml" => Ok(Self::Apply(Applied::read(call, target)?)),
            _ => Err(Failure::unsupported_patch()),
        }
    }

    /// The state that the patch makes of the current one.
    pub(crate) fn apply(
        &self,
        call: &Call,
        target: &Target,
        current: &Value,
        now: Timestamp,
    ) -> Result<Wanted, Failure> {
        let resource = target.resource.as_ref();
        let mut object = current.clone();
        match self {
            Self::Json(patch) => {
                apply_json_patch(&mut object, patch).map_err(|_| Failure::unprocessable())?;
            }
            Self::Merge(patch) => json_patch::merge(&mut object, patch),
            Self::Strategic(patch) => object = strategic::merge(resource, current, patch)?,
            Self::Apply(applied) => return applied.apply(resource, current, now),
        }
        let decoded = resource.check(object, call.query.validation())?;
        Ok(Wanted {
            object: decoded.object,
            warnings: decoded.warnings,
            applied: false,
            patched: true,
        })
    }
}

fn read_json(call: &Call) -> Result<Value, Failure> {
    let value: Value = serde_json::from_slice(&call.body).map_err(|error| {
        Failure::bad_request(format!("error decoding patch: {}", in_go(&error)))
    })?;
    match go_kind(&value) {
        "object" => Ok(value),
        kind => Err(Failure::bad_request(format!(
            "error decoding patch: json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"
        ))),
    }
}

/// A fault of reading JSON, in Go's words where they are known.
fn in_go(error: &serde_json::Error) -> String {
    if error.is_eof() {
        "unexpected end of JSON input".to_owned()
    } else {
        error.to_string()
    }
}

/// What Go calls a value.
fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Object(_) => "object",
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Number(_) => "number",
        Value::Bool(_) => "bool",
        Value::Null => "null",
    }
}

/// Applies the operations in order. As on a real server, `replace` of a field that is not there adds it.
fn apply_json_patch(
    object: &mut Value,
    patch: &json_patch::Patch,
) -> Result<(), json_patch::PatchError> {
    use json_patch::{AddOperation, Patch, PatchOperation};
    for operation in &patch.0 {
        let operation = match operation {
            PatchOperation::Replace(replace)
                if replace.path.resolve(object).is_err()
                    && replace
                        .path
                        .parent()
                        .and_then(|parent| parent.resolve(object).ok())
                        .is_some_and(Value::is_object) =>
            {
                PatchOperation::Add(AddOperation {
                    path: replace.path.clone(),
                    value: replace.value.clone(),
                })
            }
            other => other.clone(),
        };
        json_patch::patch(object, &Patch(vec![operation]))?;
    }
    Ok(())
}

fn read_json_patch(call: &Call) -> Result<Patch, Failure> {
    let fault = |cause: &str| Failure::bad_request(format!("error decoding patch: {cause}"));
    let value: Value = serde_json::from_slice(&call.body).map_err(|error| fault(&in_go(&error)))?;
    match go_kind(&value) {
        // Operations and paths that are none are found when the patch is applied.
        "array" => serde_json::from_value(value)
            .map(Patch::Json)
            .map_err(|_| Failure::unprocessable()),
        "null" => Ok(Patch::Json(json_patch::Patch(Vec::new()))),
        kind => Err(fault(&format!(
            "json: cannot unmarshal {kind} into Go value of type []handlers.jsonPatchOp"
        ))),
    }
}

impl Applied {
    fn read(call: &Call, target: &Target) -> Result<Self, Failure> {
        let Some(manager) = call.query.get("fieldManager") else {
            let error = FieldError {
                reason: "FieldValueRequired",
                field: "fieldManager".to_owned(),
                message: "Required value: is required for apply patch".to_owned(),
            };
            return Err(Failure::invalid_options("PatchOptions", &[error]));
        };
        let decoded = target.resource.decode_config(
            "application/yaml",
            &call.body,
            call.query.validation(),
        )?;
        let config = decoded.object;
        if config
            .pointer("/metadata/managedFields")
            .is_some_and(|entries| !entries.is_null())
        {
            return Err(Failure::bad_request("metadata.managedFields must be nil"));
        }
        check_name(&config, target)?;
        Ok(Self {
            config,
            manager: manager.to_owned(),
            force: call
                .query
                .get("force")
                .is_some_and(|force| force == "true" || force == "1"),
            status: target.subresource.as_deref() == Some("status"),
            warnings: decoded.warnings,
        })
    }

    fn apply(
        &self,
        resource: &dyn Resource,
        current: &Value,
        now: Timestamp,
    ) -> Result<Wanted, Failure> {
        let mut object = managed::apply(resource, current, self, now)?;
        // Ownership was computed; it needs no second reading.
        let entries = metadata::metadata(&mut object).remove("managedFields");
        let decoded = resource.check(object, crate::kinds::FieldValidation::Ignore)?;
        let mut object = decoded.object;
        if let Some(entries) = entries {
            metadata::set(&mut object, "managedFields", entries);
        }
        for field in ["resourceVersion", "uid"] {
            if let Some(sent) = metadata::text(&self.config, field) {
                metadata::set(&mut object, field, Value::from(sent));
            }
        }
        Ok(Wanted {
            object,
            warnings: self.warnings.clone(),
            applied: true,
            patched: true,
        })
    }
}
