//! Validation of the built-in kinds beyond their metadata, with the API server's words.

mod pod;
mod service;
mod storage;

use serde_json::{Value, json};

use super::part::{list, text};
use super::{FieldError, custom, meta};

/// The most that a ConfigMap or Secret may hold, in bytes.
const MOST_DATA: usize = 1024 * 1024;

/// `field is immutable`, when the two values differ.
fn immutable(new: &Value, old: &Value, field: &str) -> Option<FieldError> {
    let pointer = format!("/{}", field.replace('.', "/"));
    let (now, before) = (new.pointer(&pointer), old.pointer(&pointer));
    (now != before)
        .then(|| FieldError::invalid(field, now.unwrap_or(&Value::Null), "field is immutable"))
}

/// Faults of a new object.
pub(super) fn create(kind: &str, object: &Value) -> Vec<FieldError> {
    match kind {
        "ConfigMap" | "Secret" => data(object),
        "Pod" => pod::spec(object.get("spec").unwrap_or(&Value::Null), "spec", false),
        "Job" => pod::job(object),
        "Service" => service::create(object),
        "PersistentVolumeClaim" => storage::claim(object),
        "PersistentVolume" => storage::volume(object),
        "StorageClass" => storage::class(object),
        "RoleBinding" | "ClusterRoleBinding" => binding(object),
        "CustomResourceDefinition" => custom::definition_faults(object),
        "Event" => event(object),
        "Lease" => lease(object),
        _ => Vec::new(),
    }
}

/// Faults of a change of the main resource.
pub(super) fn update(kind: &str, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut faults = match kind {
        "Pod" => return pod::update(new, old),
        "Event" => return Vec::new(),
        _ => Vec::new(),
    };
    match kind {
        "ConfigMap" | "Secret" => faults.extend(frozen(kind, new, old)),
        "Job" => {
            let fixed = [
                "spec.completions",
                "spec.selector",
                "spec.template",
                "spec.completionMode",
                "spec.podFailurePolicy",
            ];
            faults.extend(fixed.iter().filter_map(|field| immutable(new, old, field)));
        }
        "Service" => faults.extend(service::update(new, old)),
        "PersistentVolumeClaim" => faults.extend(storage::claim_update(new, old)),
        "PersistentVolume" => faults.extend(storage::volume_update(new, old)),
        "StorageClass" => faults.extend(storage::class_update(new, old)),
        "RoleBinding" | "ClusterRoleBinding" if new.get("roleRef") != old.get("roleRef") => {
            let shown = new.get("roleRef").unwrap_or(&Value::Null);
            faults.push(FieldError::invalid(
                "roleRef",
                shown,
                "cannot change roleRef",
            ));
        }
        "CustomResourceDefinition" => {
            let fixed = [
                "spec.group",
                "spec.scope",
                "spec.names.kind",
                "spec.names.plural",
            ];
            faults.extend(fixed.iter().filter_map(|field| immutable(new, old, field)));
        }
        _ => {}
    }
    if faults.is_empty() || kind != "Job" {
        faults.extend(create(kind, new));
    }
    faults
}

/// Keys and size of a ConfigMap's or Secret's data.
fn data(object: &Value) -> Vec<FieldError> {
    let mut faults = Vec::new();
    let mut size = 0;
    for field in ["data", "binaryData"] {
        for (key, value) in object
            .get(field)
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            let here = format!("{field}[{key}]");
            faults.extend(
                meta::config_key_faults(key)
                    .iter()
                    .map(|fault| FieldError::invalid(here.clone(), &json!(key), fault)),
            );
            if field == "data"
                && object
                    .get("binaryData")
                    .is_some_and(|data| data.get(key).is_some())
            {
                faults.push(FieldError::invalid(
                    here,
                    &json!(key),
                    "duplicate of key present in binaryData",
                ));
            }
            size += value.as_str().map_or(0, str::len);
        }
    }
    if size > MOST_DATA {
        faults.push(FieldError::too_long("", MOST_DATA, "bytes"));
    }
    faults
}

/// A Secret's type never changes; what is marked immutable does not change at all.
fn frozen(kind: &str, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut faults: Vec<FieldError> = (kind == "Secret")
        .then(|| immutable(new, old, "type"))
        .flatten()
        .into_iter()
        .collect();
    if old.get("immutable") == Some(&Value::Bool(true)) {
        if new.get("immutable") != Some(&Value::Bool(true)) {
            faults.push(FieldError::forbidden(
                "immutable",
                "field is immutable when `immutable` is set",
            ));
        }
        for field in ["data", "binaryData"] {
            if new.get(field) != old.get(field) {
                faults.push(FieldError::forbidden(
                    field,
                    "field is immutable when `immutable` is set",
                ));
            }
        }
    }
    faults
}

fn binding(object: &Value) -> Vec<FieldError> {
    let mut faults = Vec::new();
    let kinds: &[&str] = if object.get("kind") == Some(&json!("RoleBinding")) {
        &["Role", "ClusterRole"]
    } else {
        &["ClusterRole"]
    };
    let kind = text(object, "/roleRef/kind");
    if !kinds.contains(&kind) {
        faults.push(FieldError::not_supported(
            "roleRef.kind",
            &json!(kind),
            kinds,
        ));
    }
    if text(object, "/roleRef/name").is_empty() {
        faults.push(FieldError::required("roleRef.name", ""));
    }
    for (position, subject) in list(object, "/subjects").iter().enumerate() {
        let field = format!("subjects[{position}]");
        if text(subject, "/name").is_empty() {
            faults.push(FieldError::required(format!("{field}.name"), ""));
        }
        if text(subject, "/kind") == "ServiceAccount" && text(subject, "/namespace").is_empty() {
            faults.push(FieldError::required(format!("{field}.namespace"), ""));
        }
    }
    faults
}

/// An event stands in the namespace of what it is about (`default` for what has none).
fn event(object: &Value) -> Vec<FieldError> {
    let (field, about) = match object.get("regarding") {
        Some(about) => ("regarding.namespace", about),
        None => (
            "involvedObject.namespace",
            object.get("involvedObject").unwrap_or(&Value::Null),
        ),
    };
    let (own, named) = (
        text(object, "/metadata/namespace"),
        text(about, "/namespace"),
    );
    let fits = named == own || (named.is_empty() && matches!(own, "default" | "kube-system"));
    if fits {
        Vec::new()
    } else {
        vec![FieldError::invalid(
            field,
            &json!(named),
            "does not match event.namespace",
        )]
    }
}

fn lease(object: &Value) -> Vec<FieldError> {
    let mut faults = Vec::new();
    if let Some(seconds) = object
        .pointer("/spec/leaseDurationSeconds")
        .filter(|seconds| seconds.as_i64() <= Some(0))
    {
        faults.push(FieldError::invalid(
            "spec.leaseDurationSeconds",
            seconds,
            "must be greater than 0",
        ));
    }
    if let Some(count) = object
        .pointer("/spec/leaseTransitions")
        .filter(|count| count.as_i64() < Some(0))
    {
        faults.push(FieldError::invalid(
            "spec.leaseTransitions",
            count,
            "must be greater than or equal to 0",
        ));
    }
    faults
}
