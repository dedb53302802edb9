//! The kinds that every cluster has.

use serde_json::{Map, Value, json};

use super::meta::NameRule;
use super::types::{self, Struct, Topology, Type};
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
    struct_name: &'static str,
    names: NameRule,
}

macro_rules! kind {
    ($group:literal, $kind:literal, $plural:literal, $struct_name:literal) => {
        BuiltIn {
            group: $group,
            kind: $kind,
            plural: $plural,
            namespaced: true,
            has_status: false,
            counts_generations: false,
            short_names: &[],
            categories: &[],
            struct_name: $struct_name,
            names: NameRule::Subdomain,
        }
    };
}

/// Every built-in kind, sorted by group and plural.
pub(crate) fn all() -> Vec<BuiltIn> {
    let mut kinds = core();
    kinds.extend(groups());
    kinds
}

fn core() -> Vec<BuiltIn> {
    vec![
        BuiltIn {
            short_names: &["cm"],
            ..kind!(
                "",
                "ConfigMap",
                "configmaps",
                "io.k8s.api.core.v1.ConfigMap"
            )
        },
        BuiltIn {
            short_names: &["ep"],
            ..kind!("", "Endpoints", "endpoints", "io.k8s.api.core.v1.Endpoints")
        },
        BuiltIn {
            short_names: &["ev"],
            ..kind!("", "Event", "events", "io.k8s.api.core.v1.Event")
        },
        BuiltIn {
            namespaced: false,
            has_status: true,
            short_names: &["ns"],
            names: NameRule::Label,
            ..kind!(
                "",
                "Namespace",
                "namespaces",
                "io.k8s.api.core.v1.Namespace"
            )
        },
        BuiltIn {
            namespaced: false,
            has_status: true,
            short_names: &["no"],
            ..kind!("", "Node", "nodes", "io.k8s.api.core.v1.Node")
        },
        BuiltIn {
            has_status: true,
            short_names: &["pvc"],
            ..kind!(
                "",
                "PersistentVolumeClaim",
                "persistentvolumeclaims",
                "io.k8s.api.core.v1.PersistentVolumeClaim"
            )
        },
        BuiltIn {
            namespaced: false,
            has_status: true,
            short_names: &["pv"],
            ..kind!(
                "",
                "PersistentVolume",
                "persistentvolumes",
                "io.k8s.api.core.v1.PersistentVolume"
            )
        },
        BuiltIn {
            has_status: true,
            counts_generations: true,
            short_names: &["po"],
            categories: &["all"],
            ..kind!("", "Pod", "pods", "io.k8s.api.core.v1.Pod")
        },
        kind!("", "Secret", "secrets", "io.k8s.api.core.v1.Secret"),
        BuiltIn {
            short_names: &["sa"],
            ..kind!(
                "",
                "ServiceAccount",
                "serviceaccounts",
                "io.k8s.api.core.v1.ServiceAccount"
            )
        },
        BuiltIn {
            has_status: true,
            short_names: &["svc"],
            categories: &["all"],
            names: NameRule::Dns1035,
            ..kind!("", "Service", "services", "io.k8s.api.core.v1.Service")
        },
    ]
}

fn groups() -> Vec<BuiltIn> {
    let rbac = |kind: BuiltIn| BuiltIn {
        names: NameRule::PathSegment,
        ..kind
    };
    vec![
        BuiltIn {
            namespaced: false,
            has_status: true,
            counts_generations: true,
            short_names: &["crd", "crds"],
            categories: &["api-extensions"],
            ..kind!(
                "apiextensions.k8s.io",
                "CustomResourceDefinition",
                "customresourcedefinitions",
                "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition"
            )
        },
        BuiltIn {
            namespaced: false,
            ..kind!(
                "authorization.k8s.io",
                "SelfSubjectAccessReview",
                "selfsubjectaccessreviews",
                "io.k8s.api.authorization.v1.SelfSubjectAccessReview"
            )
        },
        BuiltIn {
            has_status: true,
            counts_generations: true,
            categories: &["all"],
            ..kind!("batch", "Job", "jobs", "io.k8s.api.batch.v1.Job")
        },
        kind!(
            "coordination.k8s.io",
            "Lease",
            "leases",
            "io.k8s.api.coordination.v1.Lease"
        ),
        BuiltIn {
            short_names: &["ev"],
            ..kind!(
                "events.k8s.io",
                "Event",
                "events",
                "io.k8s.api.events.v1.Event"
            )
        },
        rbac(BuiltIn {
            namespaced: false,
            ..kind!(
                "rbac.authorization.k8s.io",
                "ClusterRoleBinding",
                "clusterrolebindings",
                "io.k8s.api.rbac.v1.ClusterRoleBinding"
            )
        }),
        rbac(BuiltIn {
            namespaced: false,
            ..kind!(
                "rbac.authorization.k8s.io",
                "ClusterRole",
                "clusterroles",
                "io.k8s.api.rbac.v1.ClusterRole"
            )
        }),
        rbac(kind!(
            "rbac.authorization.k8s.io",
            "RoleBinding",
            "rolebindings",
            "io.k8s.api.rbac.v1.RoleBinding"
        )),
        rbac(kind!(
            "rbac.authorization.k8s.io",
            "Role",
            "roles",
            "io.k8s.api.rbac.v1.Role"
        )),
        BuiltIn {
            namespaced: false,
            short_names: &["sc"],
            ..kind!(
                "storage.k8s.io",
                "StorageClass",
                "storageclasses",
                "io.k8s.api.storage.v1.StorageClass"
            )
        },
    ]
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
        value: &Value,
        duplicates: Vec<String>,
        validation: FieldValidation,
    ) -> Result<Decoded, DecodeError> {
        check_kind(value, &self.api_version(), self.kind)?;
        let mut findings = typed::Findings::default();
        let object = typed::read(self.struct_name, value, true, &mut findings)
            .map_err(|fault| cannot_handle(self.kind, "v1", &fault))?;
        let object = with_kind(object, &self.api_version(), self.kind);
        let warnings = judge(self.kind, "v1", duplicates, findings.unknown, validation)?;
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
        openapi::built_in(self.struct_name)
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

    fn from_stored(&self, object: &mut Value) {
        if self.group == "events.k8s.io" {
            rename(
                object,
                EVENT_FIELDS.iter().map(|(ours, stored)| (*stored, *ours)),
            );
            set_kind(object, "events.k8s.io/v1");
        }
    }

    fn decode(
        &self,
        content_type: &str,
        body: &[u8],
        validation: FieldValidation,
    ) -> Result<Decoded, DecodeError> {
        let body = wire::read(content_type, body, self.kind)?;
        self.read(&body.value, body.duplicates, validation)
    }

    fn check(&self, object: Value, validation: FieldValidation) -> Result<Decoded, DecodeError> {
        self.read(&object, Vec::new(), validation)
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
        at(self.struct_name, path).map_or(Merge::Granular, |place| place.merge(false))
    }

    fn patch_merge_at(&self, path: &[&str]) -> Merge {
        at(self.struct_name, path).map_or(Merge::Granular, |place| place.merge(true))
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

/// What the table says of the value at a path.
struct At<'a> {
    kind: &'a Type,
    topology: &'a Topology,
    patch_key: Option<&'a str>,
    patch_merges: bool,
}

impl At<'_> {
    fn merge(&self, patch: bool) -> Merge {
        match self.kind {
            Type::List(inner) if patch => match (self.patch_merges, self.patch_key, inner.as_ref())
            {
                (true, Some(key), _) => Merge::ByKey(vec![(key.to_owned(), None)]),
                (true, None, _) => Merge::Set,
                _ => Merge::Atomic,
            },
            Type::List(inner) => match self.topology {
                Topology::Set => Merge::Set,
                Topology::ByKeys(keys) => Merge::ByKey(
                    keys.iter()
                        .map(|key| (key.clone(), key_default(inner, key)))
                        .collect(),
                ),
                _ => Merge::Atomic,
            },
            // Patches go into structs that server-side apply replaces as a whole.
            Type::Struct(name) if !patch => match (self.topology, types::find(name)) {
                (Topology::Atomic, _) => Merge::Atomic,
                (_, Some(shape)) if shape.atomic => Merge::Atomic,
                _ => Merge::Granular,
            },
            Type::Map(_) if !patch && *self.topology == Topology::Atomic => Merge::Atomic,
            Type::FieldsV1 | Type::IntOrString | Type::Quantity => Merge::Atomic,
            _ => Merge::Granular,
        }
    }
}

fn key_default(item: &Type, key: &str) -> Option<Value> {
    let Type::Struct(name) = item else {
        return None;
    };
    types::find(name)?.field(key)?.default.clone()
}

/// Walks the table; `None` where it knows nothing.
fn at<'a>(struct_name: &str, path: &[&str]) -> Option<At<'a>> {
    let mut shape: Option<&'static Struct> = Some(types::find(struct_name)?);
    let mut found: Option<At<'a>> = None;
    for element in path {
        let next = match (&found, shape) {
            (_, Some(owner)) => {
                let field = owner.field(element)?;
                At {
                    kind: &field.kind,
                    topology: &field.topology,
                    patch_key: field.patch_key.as_deref(),
                    patch_merges: field.patch_merges,
                }
            }
            (
                Some(At {
                    kind: Type::List(inner) | Type::Map(inner),
                    ..
                }),
                None,
            ) => At {
                kind: inner,
                topology: &Topology::Default,
                patch_key: None,
                patch_merges: false,
            },
            _ => return None,
        };
        shape = match next.kind {
            Type::Struct(name) => types::find(name),
            _ => None,
        };
        found = Some(next);
    }
    found
}
