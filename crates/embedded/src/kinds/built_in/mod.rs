//! The kinds that every cluster has.

mod list;
mod merges;

use serde_json::{Map, Value, json};

use self::merges::at;
use super::meta::NameRule;
use super::{
    DecodeError, Decoded, FieldError, FieldValidation, Merge, Resource, World, defaults, meta,
    typed, validate,
};
use crate::{openapi, tables, wire};

const ALL_VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];
const NAMESPACE_VERBS: &[&str] = &[
    "create", "delete", "get", "list", "patch", "update", "watch",
];
const CREATE: &[&str] = &["create"];

pub(super) use self::list::all;

/// One built-in kind.
#[derive(Debug)]
pub(crate) struct BuiltIn {
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    namespaced: bool,
    has_status: bool,
    counts_generations: bool,
    short_names: &'static [&'static str],
    categories: &'static [&'static str],
    /// Full name of its struct.
    struct_name: String,
    names: NameRule,
}

impl BuiltIn {
    fn api_version(&self) -> String {
        if self.group.is_empty() {
            "v1".to_owned()
        } else {
            format!("{}/v1", self.group)
        }
    }

    /// Checks apiVersion, kind and every type; drops what the type does not have.
    fn read(
        &self,
        body: &wire::Body,
        partial: bool,
        validation: FieldValidation,
    ) -> Result<Decoded, DecodeError> {
        check_kind(&body.value, &self.api_version(), self.kind)?;
        let mut findings = typed::Findings {
            partial,
            ..typed::Findings::default()
        };
        let object = typed::read(&self.struct_name, &body.value, true, &mut findings)
            .map_err(|fault| cannot_handle(self.kind, "v1", &fault))?;
        let object = with_kind(object, &self.api_version(), self.kind);
        let warnings = judge(
            self.kind,
            "v1",
            body.duplicates.clone(),
            findings.unknown,
            validation,
        )?;
        Ok(Decoded { object, warnings })
    }
}

fn with_kind(mut object: Value, api_version: &str, kind: &str) -> Value {
    if let Some(map) = object.as_object_mut() {
        map.insert("apiVersion".to_owned(), json!(api_version));
        map.insert("kind".to_owned(), json!(kind));
    }
    object
}

/// `X in version "v1" cannot be handled as a X: …`.
pub(crate) fn cannot_handle(kind: &str, version: &str, fault: &str) -> DecodeError {
    DecodeError::bad_request(format!(
        "{kind} in version {version:?} cannot be handled as a {kind}: {fault}"
    ))
}

/// Refuses another kind or version than the one served here; absent ones are filled in by the caller.
pub(crate) fn check_kind(value: &Value, api_version: &str, kind: &str) -> Result<(), DecodeError> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    let (found_version, found_kind) = (text("apiVersion"), text("kind"));
    if !found_kind.is_empty() && found_kind != kind {
        let version = found_version.rsplit('/').next().unwrap_or_default();
        return Err(DecodeError::bad_request(format!(
            "{found_kind} in version {version:?} cannot be handled as a {kind}: converting (v1.{found_kind}) to (core.{kind}): unknown conversion"
        )));
    }
    if !found_version.is_empty() && found_version != api_version {
        return Err(DecodeError::bad_request(format!(
            "the API version in the data ({found_version}) does not match the expected API version ({api_version})"
        )));
    }
    Ok(())
}

/// Unknown and duplicate fields: refused, warned of, or passed over.
pub(crate) fn judge(
    kind: &str,
    version: &str,
    duplicates: Vec<String>,
    unknown: Vec<String>,
    validation: FieldValidation,
) -> Result<Vec<String>, DecodeError> {
    let mut faults: Vec<String> = duplicates
        .into_iter()
        .map(|path| format!("duplicate field {path:?}"))
        .collect();
    faults.extend(
        unknown
            .into_iter()
            .map(|path| format!("unknown field {path:?}")),
    );
    match validation {
        FieldValidation::Strict if !faults.is_empty() => Err(cannot_handle(
            kind,
            version,
            &format!("strict decoding error: {}", faults.join(", ")),
        )),
        FieldValidation::Warn => Ok(faults),
        FieldValidation::Strict | FieldValidation::Ignore => Ok(Vec::new()),
    }
}

impl Resource for BuiltIn {
    fn group(&self) -> &str {
        self.group
    }

    fn version(&self) -> &'static str {
        "v1"
    }

    fn kind(&self) -> &str {
        self.kind
    }

    fn plural(&self) -> &str {
        self.plural
    }

    fn singular(&self) -> &str {
        singular(self.kind)
    }

    fn namespaced(&self) -> bool {
        self.namespaced
    }

    fn has_status(&self) -> bool {
        self.has_status
    }

    fn verbs(&self) -> &[&'static str] {
        match self.kind {
            "Namespace" => NAMESPACE_VERBS,
            "SelfSubjectAccessReview" => CREATE,
            _ => ALL_VERBS,
        }
    }

    fn strategic(&self) -> bool {
        true
    }

    fn counts_generations(&self) -> bool {
        self.counts_generations
    }

    fn short_names(&self) -> Vec<String> {
        self.short_names
            .iter()
            .map(|&name| name.to_owned())
            .collect()
    }

    fn categories(&self) -> Vec<String> {
        self.categories
            .iter()
            .map(|&name| name.to_owned())
            .collect()
    }

    fn selectable_fields(&self) -> Vec<String> {
        let fields: &[&str] = match (self.group, self.kind) {
            ("", "Pod") => &[
                "spec.nodeName",
                "spec.restartPolicy",
                "spec.schedulerName",
                "spec.serviceAccountName",
                "spec.hostNetwork",
                "status.phase",
                "status.podIP",
                "status.nominatedNodeName",
            ],
            ("", "Event") => &[
                "involvedObject.kind",
                "involvedObject.namespace",
                "involvedObject.name",
                "involvedObject.uid",
                "involvedObject.apiVersion",
                "involvedObject.resourceVersion",
                "involvedObject.fieldPath",
                "reason",
                "reportingComponent",
                "source",
                "type",
            ],
            ("events.k8s.io", "Event") => &[
                "regarding.kind",
                "regarding.namespace",
                "regarding.name",
                "regarding.uid",
                "regarding.apiVersion",
                "regarding.resourceVersion",
                "regarding.fieldPath",
                "reason",
                "reportingController",
                "type",
            ],
            ("", "Secret") => &["type"],
            ("", "Namespace") => &["status.phase"],
            ("", "Node") => &["spec.unschedulable"],
            ("", "Service") => &["spec.clusterIP", "spec.type"],
            ("batch", "Job") => &["status.successful"],
            _ => &[],
        };
        fields.iter().map(|&field| field.to_owned()).collect()
    }

    fn columns(&self) -> Vec<tables::Column> {
        tables::built_in(self.group, self.kind)
    }

    fn openapi(&self) -> (String, Map<String, Value>) {
        openapi::built_in(&self.struct_name)
    }

    fn storage(&self) -> (String, String) {
        match self.kind {
            "Event" => (String::new(), "events".to_owned()),
            _ => (self.group.to_owned(), self.plural.to_owned()),
        }
    }

    fn to_stored(&self, object: &mut Value) {
        if self.group == "events.k8s.io" {
            rename(object, EVENT_FIELDS.iter().copied());
            set_kind(object, "v1");
        }
    }

    fn shown_from_stored(&self, object: &mut Value) {
        if self.group == "events.k8s.io" {
            rename(
                object,
                EVENT_FIELDS.iter().map(|(ours, stored)| (*stored, *ours)),
            );
            set_kind(object, "events.k8s.io/v1");
        }
    }

    fn empty(&self) -> Value {
        let object = typed::read(
            &self.struct_name,
            &Value::Null,
            true,
            &mut typed::Findings::default(),
        );
        with_kind(
            object.unwrap_or_else(|_| json!({})),
            &self.api_version(),
            self.kind,
        )
    }

    fn decode(
        &self,
        content_type: &str,
        body: &[u8],
        validation: FieldValidation,
    ) -> Result<Decoded, DecodeError> {
        self.read(
            &wire::read(content_type, body, self.kind)?,
            false,
            validation,
        )
    }

    fn decode_config(
        &self,
        content_type: &str,
        body: &[u8],
        validation: FieldValidation,
    ) -> Result<Decoded, DecodeError> {
        self.read(
            &wire::read(content_type, body, self.kind)?,
            true,
            validation,
        )
    }

    fn check(&self, object: Value, validation: FieldValidation) -> Result<Decoded, DecodeError> {
        self.read(
            &wire::Body {
                value: object,
                duplicates: Vec::new(),
            },
            false,
            validation,
        )
    }

    fn default(&self, object: &mut Value, old: Option<&Value>) {
        defaults::fill(self.kind, object, old);
    }

    fn prepare(&self, object: &mut Value, old: Option<&Value>, world: &dyn World) {
        defaults::prepare(self.kind, object, old, world);
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        if self.kind == "SelfSubjectAccessReview" {
            return Vec::new();
        }
        let mut faults = meta::validate(object, self.names);
        faults.extend(validate::create(self.kind, object));
        faults
    }

    fn validate_update(&self, new: &Value, old: &Value, status: bool) -> Vec<FieldError> {
        let mut faults = meta::validate_update(new, old);
        if !status {
            faults.extend(validate::update(self.kind, new, old));
        }
        faults
    }

    fn merge_at(&self, path: &[&str]) -> Merge {
        at(&self.struct_name, path).map_or(Merge::Granular, |place| place.merge(false))
    }

    fn patch_merge_at(&self, path: &[&str]) -> Merge {
        at(&self.struct_name, path).map_or(Merge::Granular, |place| place.merge(true))
    }
}

/// `namespace` of `Namespace`.
fn singular(kind: &'static str) -> &'static str {
    match kind {
        "ClusterRole" => "clusterrole",
        "ClusterRoleBinding" => "clusterrolebinding",
        "ConfigMap" => "configmap",
        "CustomResourceDefinition" => "customresourcedefinition",
        "Endpoints" => "endpoints",
        "Event" => "event",
        "Job" => "job",
        "Lease" => "lease",
        "Namespace" => "namespace",
        "Node" => "node",
        "PersistentVolume" => "persistentvolume",
        "PersistentVolumeClaim" => "persistentvolumeclaim",
        "Pod" => "pod",
        "Role" => "role",
        "RoleBinding" => "rolebinding",
        "Secret" => "secret",
        "SelfSubjectAccessReview" => "selfsubjectaccessreview",
        "Service" => "service",
        "ServiceAccount" => "serviceaccount",
        "StorageClass" => "storageclass",
        other => other,
    }
}

/// Names of an Event's fields in events.k8s.io/v1 and in core/v1, in which it is kept.
const EVENT_FIELDS: &[(&str, &str)] = &[
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

fn rename<'a>(object: &mut Value, names: impl Iterator<Item = (&'a str, &'a str)>) {
    let Some(map) = object.as_object_mut() else {
        return;
    };
    for (from, to) in names {
        if let Some(value) = map.remove(from) {
            map.insert(to.to_owned(), value);
        }
    }
}

fn set_kind(object: &mut Value, api_version: &str) {
    if let Some(map) = object.as_object_mut() {
        map.insert("apiVersion".to_owned(), json!(api_version));
    }
}
