//! The four ways to say a change: JSON patch, merge patch, strategic merge patch, apply.

mod strategic;

use jiff::Timestamp;
use serde_json::Value;

use super::{change::Wanted, dispatch::Call, managed, metadata, route::Target, status::Failure};
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
                json_patch::patch(&mut object, patch).map_err(|_| Failure::unprocessable())?;
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
        })
    }
}

fn read_json(call: &Call) -> Result<Value, Failure> {
    let value: Value = serde_json::from_slice(&call.body)
        .map_err(|error| Failure::bad_request(format!("error decoding patch: {error}")))?;
    if value.is_object() {
        Ok(value)
    } else {
        Err(Failure::bad_request(
            "error decoding patch: json: a patch must be an object",
        ))
    }
}

fn read_json_patch(call: &Call) -> Result<Patch, Failure> {
    let fault = |cause: &str| Failure::bad_request(format!("error decoding patch: {cause}"));
    let value: Value =
        serde_json::from_slice(&call.body).map_err(|error| fault(&error.to_string()))?;
    let kind = match &value {
        Value::Array(_) => {
            return serde_json::from_value(value)
                .map(Patch::Json)
                .map_err(|error| fault(&error.to_string()));
        }
        Value::Object(_) => "object",
        Value::String(_) => "string",
        Value::Number(_) => "number",
        Value::Bool(_) => "bool",
        Value::Null => return Ok(Patch::Json(json_patch::Patch(Vec::new()))),
    };
    Err(fault(&format!(
        "json: cannot unmarshal {kind} into Go value of type []handlers.jsonPatchOp"
    )))
}

impl Applied {
    fn read(call: &Call, target: &Target) -> Result<Self, Failure> {
        let Some(manager) = call.query.get("fieldManager") else {
            let error = FieldError {
                reason: "FieldValueRequired",
                field: "fieldManager".to_owned(),
                message: "Required value: is required for apply patch".to_owned(),
            };
            return Err(Failure::invalid_options("PatchOptions", &error));
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
        let name = metadata::text(&config, "name").unwrap_or_default();
        if name != target.name() {
            return Err(Failure::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                target.name()
            )));
        }
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
        if let Some(version) = metadata::text(&self.config, "resourceVersion") {
            metadata::set(&mut object, "resourceVersion", Value::from(version));
        }
        Ok(Wanted {
            object,
            warnings: self.warnings.clone(),
            applied: true,
        })
    }
}
