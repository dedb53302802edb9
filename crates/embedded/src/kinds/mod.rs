//! What the server knows of each kind: built-in kinds typed by `k8s-openapi`, custom ones by their structural schema.
//!
//! The server core (`server/`) asks only the functions of this module; it never names a kind itself except
//! namespaces and custom resource definitions, whose life cycles it carries.

use std::sync::Arc;

use serde_json::Value;

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

    /// Reads one object of this kind from a body in JSON, YAML 1.1 or Kubernetes' protobuf.
    fn decode(&self, content_type: &str, body: &[u8], validation: FieldValidation) -> Result<Decoded, DecodeError>;
    /// Checks types and unknown fields of an object made by a patch, as `decode` does for a body.
    fn check(&self, object: Value, validation: FieldValidation) -> Result<Decoded, DecodeError>;
    /// Fills in defaults (and prunes, for custom resources). `old` is the stored object on update.
    fn default(&self, object: &mut Value, old: Option<&Value>);
    /// Every fault of a new object, metadata (names, labels, annotations, owners) included.
    fn validate_create(&self, object: &Value) -> Vec<FieldError>;
    /// Every fault of a change, immutable fields included. `status` tells which half was written.
    fn validate_update(&self, new: &Value, old: &Value, status: bool) -> Vec<FieldError>;
    /// How the value at this path merges. Path elements are field names; `*` stands for "any item or key".
    fn merge_at(&self, path: &[&str]) -> Merge;
}

/// All resources served now: the built-in ones and those of custom resource definitions.
#[derive(Default)]
pub(crate) struct Registry {
    resources: Vec<Arc<dyn Resource>>,
}

impl Registry {
    /// The built-in kinds.
    pub(crate) fn built_in() -> Self {
        Self::default()
    }

    /// Finds `group/version plural`; the core group is the empty string.
    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<dyn Resource>> {
        self.resources
            .iter()
            .find(|resource| resource.group() == group && resource.version() == version && resource.plural() == plural)
            .cloned()
    }

    /// Everything served.
    pub(crate) fn all(&self) -> &[Arc<dyn Resource>] {
        &self.resources
    }

    /// Serves what this CustomResourceDefinition declares (replacing an earlier form of it).
    pub(crate) fn install(&mut self, _crd: &Value) -> Result<(), Vec<FieldError>> {
        Ok(())
    }

    /// Stops serving the definition of this name (`plural.group`).
    pub(crate) fn remove(&mut self, _name: &str) {}
}
