//! What the server knows of each kind: built-in kinds typed by the published Go types, custom ones by their schema.
//!
//! The server core (`server/`) asks only the functions of this module; it never names a kind itself except
//! namespaces and custom resource definitions, whose life cycles it carries.
//!
//! The order of a write, as a real API server has it: `decode` (or a patch and `check`) → `default` → managed fields →
//! name, uid, creationTimestamp → `prepare` → `validate_*` → store.

mod built_in;
mod custom;
mod defaults;
mod go_dump;
mod meta;
pub(crate) mod part;
mod quantity;
mod registry;
mod shipped;
#[cfg(test)]
mod tests;
mod typed;
pub(crate) mod types;
mod validate;

use serde_json::Value;

pub(crate) use self::meta::{label_value_faults, qualified_name_faults};
pub(crate) use self::registry::Registry;
pub(crate) use self::shipped::definitions as shipped_definitions;

/// A fault of one field, as the API server lists them in `details.causes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldError {
    /// For instance `FieldValueRequired`, `FieldValueInvalid`, `FieldValueForbidden`.
    pub reason: &'static str,
    /// Dotted path, for instance `spec.template.spec.containers[0].name`.
    pub field: String,
    /// For instance `Required value: name or generateName is required`.
    pub message: String,
}

impl FieldError {
    /// A field that must be there is not.
    pub(crate) fn required(field: impl Into<String>, detail: &str) -> Self {
        let message = if detail.is_empty() {
            "Required value".to_owned()
        } else {
            format!("Required value: {detail}")
        };
        Self {
            reason: "FieldValueRequired",
            field: field.into(),
            message,
        }
    }

    /// A value that the field does not take.
    pub(crate) fn invalid(field: impl Into<String>, value: &Value, detail: &str) -> Self {
        Self {
            reason: "FieldValueInvalid",
            field: field.into(),
            message: format!("Invalid value: {value}: {detail}"),
        }
    }

    /// A value that may not be given here or now.
    pub(crate) fn forbidden(field: impl Into<String>, detail: &str) -> Self {
        Self {
            reason: "FieldValueForbidden",
            field: field.into(),
            message: format!("Forbidden: {detail}"),
        }
    }

    /// A value outside of a list of values; `supported` is shown in the order given.
    pub(crate) fn not_supported(
        field: impl Into<String>,
        value: &Value,
        supported: &[&str],
    ) -> Self {
        let supported = supported
            .iter()
            .map(|text| format!("{text:?}"))
            .collect::<Vec<_>>()
            .join(", ");
        let message = format!("Unsupported value: {value}: supported values: {supported}");
        Self {
            reason: "FieldValueNotSupported",
            field: field.into(),
            message,
        }
    }

    /// A value that may occur once in a list and is there again.
    pub(crate) fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        Self {
            reason: "FieldValueDuplicate",
            field: field.into(),
            message: format!("Duplicate value: {value}"),
        }
    }

    /// A text that is too long; `unit` is `bytes` or `characters`.
    pub(crate) fn too_long(field: impl Into<String>, limit: usize, unit: &str) -> Self {
        let message = format!("Too long: may not be more than {limit} {unit}");
        Self {
            reason: "FieldValueTooLong",
            field: field.into(),
            message,
        }
    }
}

/// `fieldValidation=Strict|Warn|Ignore`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Strict,
    Warn,
    Ignore,
}

/// Why a body could not be read; `server/` turns it into a Status.
#[derive(Clone, Debug)]
pub(crate) struct DecodeError {
    /// HTTP status (400, 415, 422).
    pub code: u16,
    /// For instance `BadRequest`.
    pub reason: &'static str,
    pub message: String,
}

impl DecodeError {
    /// 400 with this message.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self {
            code: 400,
            reason: "BadRequest",
            message: message.into(),
        }
    }
}

/// A decoded body: one object as JSON, with the warnings that its reading gave.
#[derive(Clone, Debug)]
pub(crate) struct Decoded {
    pub object: Value,
    pub warnings: Vec<String>,
}

/// How a list or map merges: in server-side apply and in strategic merge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Merge {
    /// A map or struct, merged field by field.
    Granular,
    /// Replaced as a whole.
    Atomic,
    /// A list of scalars, merged as a set.
    Set,
    /// A list of maps, merged by these keys (each with its default, when it has one).
    ByKey(Vec<(String, Option<Value>)>),
}

/// The other objects that `prepare` and the validations may look at.
pub(crate) trait World {
    /// Every object of `group` and `plural` in all namespaces, in no particular order.
    fn list(&self, group: &str, plural: &str) -> Vec<Value>;
}

/// One resource as a version serves it, for instance `batch/v1 jobs`.
pub(crate) trait Resource: Send + Sync {
    fn group(&self) -> &str;
    fn version(&self) -> &str;
    fn kind(&self) -> &str;
    fn plural(&self) -> &str;
    fn singular(&self) -> &str;
    fn namespaced(&self) -> bool;
    fn has_status(&self) -> bool;
    fn verbs(&self) -> &[&'static str];
    /// Whether strategic merge patches are understood (built-in kinds).
    fn strategic(&self) -> bool;
    /// Whether spec changes raise `metadata.generation`.
    fn counts_generations(&self) -> bool;
    /// For instance `po` of pods.
    fn short_names(&self) -> Vec<String> {
        Vec::new()
    }
    /// For instance `all`.
    fn categories(&self) -> Vec<String> {
        Vec::new()
    }
    /// For instance `ConfigMapList`.
    fn list_kind(&self) -> String {
        format!("{}List", self.kind())
    }
    /// Field selectors beside `metadata.name` and `metadata.namespace`, as dotted JSON paths of the object (in the form
    /// in which this resource serves it).
    fn selectable_fields(&self) -> Vec<String> {
        Vec::new()
    }
    /// The columns of a table, `Name` first.
    fn columns(&self) -> Vec<crate::tables::Column>;
    /// The schema of this version as `OpenAPI` v3 components: name of the kind's own schema, and all that it refers to.
    fn openapi(&self) -> (String, serde_json::Map<String, Value>);
    /// Where objects are kept: `group`, `plural`. Two resources that share it are two forms of the same objects
    /// (core/v1 and events.k8s.io/v1 events).
    fn storage(&self) -> (String, String) {
        (self.group().to_owned(), self.plural().to_owned())
    }
    /// Turns an object of this form into the form that is kept, in place. Identity unless `storage` says otherwise.
    fn to_stored(&self, _object: &mut Value) {}
    /// Turns a kept object into this form, in place. Every answer passes here when `storage` is shared.
    fn shown_from_stored(&self, _object: &mut Value) {}

    /// Reads one object of this kind from a body in JSON, YAML 1.1 or Kubernetes' protobuf.
    fn decode(
        &self,
        content_type: &str,
        body: &[u8],
        validation: FieldValidation,
    ) -> Result<Decoded, DecodeError>;
    /// Reads a configuration that is applied: a part of an object, as it was written, without the empty values that a
    /// whole object has.
    fn decode_config(
        &self,
        content_type: &str,
        body: &[u8],
        validation: FieldValidation,
    ) -> Result<Decoded, DecodeError> {
        self.decode(content_type, body, validation)
    }
    /// The empty object of this kind: what a new object is compared with to see which fields its maker wrote.
    fn empty(&self) -> Value {
        serde_json::json!({ "metadata": {} })
    }
    /// Checks types and unknown fields of an object made by a patch, as `decode` does for a body.
    fn check(&self, object: Value, validation: FieldValidation) -> Result<Decoded, DecodeError>;
    /// Fills in defaults (and prunes, for custom resources). `old` is the stored object on update.
    fn default(&self, object: &mut Value, old: Option<&Value>);
    /// What the server itself writes into an object beyond the defaults that count as the writer's: a Job's selector and
    /// labels, a Service's address, a claim's storage class and finalizer, the first status. Runs after the managed
    /// fields were computed and after name and uid are set; `old` is the stored object on update.
    fn prepare(&self, _object: &mut Value, _old: Option<&Value>, _world: &dyn World) {}
    /// Every fault of a new object, metadata (names, labels, annotations, owners) included.
    fn validate_create(&self, object: &Value) -> Vec<FieldError>;
    /// Every fault of a change, immutable fields included. `status` tells which half was written.
    fn validate_update(&self, new: &Value, old: &Value, status: bool) -> Vec<FieldError>;
    /// How the value at this path merges. Path elements are field names; `*` stands for "any item or key".
    fn merge_at(&self, path: &[&str]) -> Merge;
    /// How the value at this path merges in a strategic merge patch; lists that say nothing are replaced.
    fn patch_merge_at(&self, path: &[&str]) -> Merge {
        self.merge_at(path)
    }
}
