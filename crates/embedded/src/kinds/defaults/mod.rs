//! Defaults of the built-in kinds, and what the server itself writes into them.

mod job;
mod network;
mod pod;
mod storage;

use serde_json::{Map, Value, json};

use super::World;

/// The map at a key, made when it is not there.
fn map<'a>(object: &'a mut Value, key: &str) -> Option<&'a mut Map<String, Value>> {
    object
        .as_object_mut()?
        .entry(key)
        .or_insert_with(|| json!({}))
        .as_object_mut()
}

/// Puts a value where there is none.
fn absent(map: &mut Map<String, Value>, key: &str, value: impl FnOnce() -> Value) {
    if map.get(key).is_none_or(Value::is_null) {
        map.insert(key.to_owned(), value());
    }
}

/// Puts a text where there is none or an empty one.
fn empty(map: &mut Map<String, Value>, key: &str, text: &str) {
    if map
        .get(key)
        .and_then(Value::as_str)
        .is_none_or(str::is_empty)
    {
        map.insert(key.to_owned(), json!(text));
    }
}

/// The items of a list, none when it is not there.
fn items<'a>(
    map: &'a mut Map<String, Value>,
    key: &str,
) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    map.get_mut(key)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
}

/// Fills in the defaults that count as written by the client.
pub(super) fn fill(kind: &str, object: &mut Value, _old: Option<&Value>) {
    match kind {
        "Namespace" => namespace(object),
        "Secret" => secret(object),
        "Pod" => pod::fill(object),
        "Job" => job::fill(object),
        "Service" => network::fill(object),
        "PersistentVolumeClaim" => storage::fill_claim(object),
        "PersistentVolume" => storage::fill_volume(object),
        "StorageClass" => storage::fill_class(object),
        "RoleBinding" | "ClusterRoleBinding" => binding(object),
        "CustomResourceDefinition" => definition(object),
        _ => {}
    }
}

/// Writes what the server decides.
pub(super) fn prepare(kind: &str, object: &mut Value, old: Option<&Value>, world: &dyn World) {
    match kind {
        "Pod" if old.is_none() => pod::prepare(object),
        "Job" if old.is_none() => job::prepare(object),
        "Service" => network::prepare(object, old, world),
        "PersistentVolumeClaim" if old.is_none() => storage::prepare_claim(object, world),
        "PersistentVolume" if old.is_none() => storage::prepare_volume(object),
        "Namespace" if old.is_none() => {
            if let Some(spec) = map(object, "spec") {
                absent(spec, "finalizers", || json!(["kubernetes"]));
            }
            set_status(object, json!({ "phase": "Active" }));
        }
        "CustomResourceDefinition" if old.is_none() => {
            let stored = stored_versions(object);
            let names = json!({ "plural": "", "kind": "" });
            set_status(
                object,
                json!({ "conditions": null, "acceptedNames": names, "storedVersions": stored }),
            );
        }
        "SelfSubjectAccessReview" => set_status(object, json!({ "allowed": true })),
        _ => {}
    }
}

/// The versions that objects of a definition are kept in.
fn stored_versions(definition: &Value) -> Vec<Value> {
    let versions = definition
        .pointer("/spec/versions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    versions
        .filter(|version| version.get("storage") == Some(&Value::Bool(true)))
        .filter_map(|version| version.get("name").cloned())
        .collect()
}

fn set_status(object: &mut Value, status: Value) {
    if let Some(map) = object.as_object_mut() {
        map.insert("status".to_owned(), status);
    }
}

/// Adds a finalizer at the end, once.
fn add_finalizer(object: &mut Value, name: &str) {
    let finalizers = map(object, "metadata")
        .map(|metadata| metadata.entry("finalizers").or_insert_with(|| json!([])));
    if let Some(Value::Array(names)) = finalizers
        && !names.contains(&json!(name))
    {
        names.push(json!(name));
    }
}

fn namespace(object: &mut Value) {
    let name = object
        .pointer("/metadata/name")
        .cloned()
        .unwrap_or(Value::Null);
    if name.as_str().is_none_or(str::is_empty) {
        return;
    }
    if let Some(metadata) = map(object, "metadata")
        && let Some(labels) = metadata
            .entry("labels")
            .or_insert_with(|| json!({}))
            .as_object_mut()
    {
        labels.insert("kubernetes.io/metadata.name".to_owned(), name);
    }
}

/// `stringData` is written into `data`; the type is `Opaque` when none is named.
fn secret(object: &mut Value) {
    use base64::Engine as _;
    let Some(secret) = object.as_object_mut() else {
        return;
    };
    if let Some(Value::Object(plain)) = secret.remove("stringData")
        && let Some(data) = secret
            .entry("data")
            .or_insert_with(|| json!({}))
            .as_object_mut()
    {
        for (key, text) in plain {
            let encoded =
                base64::engine::general_purpose::STANDARD.encode(text.as_str().unwrap_or_default());
            data.insert(key, json!(encoded));
        }
    }
    empty(secret, "type", "Opaque");
}

const RBAC: &str = "rbac.authorization.k8s.io";

fn binding(object: &mut Value) {
    if let Some(role) = map(object, "roleRef") {
        empty(role, "apiGroup", RBAC);
    }
    let Some(binding) = object.as_object_mut() else {
        return;
    };
    for subject in items(binding, "subjects") {
        if matches!(
            subject.get("kind").and_then(Value::as_str),
            Some("User" | "Group")
        ) {
            empty(subject, "apiGroup", RBAC);
        }
    }
}

fn definition(object: &mut Value) {
    let Some(spec) = map(object, "spec") else {
        return;
    };
    if let Some(names) = spec.get_mut("names").and_then(Value::as_object_mut) {
        let kind = names
            .get("kind")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        if !kind.is_empty() {
            empty(names, "singular", &kind.to_lowercase());
            empty(names, "listKind", &format!("{kind}List"));
        }
    }
    absent(spec, "conversion", || json!({ "strategy": "None" }));
}
