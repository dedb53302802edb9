//! The parts of `metadata` that the server keeps itself.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::kinds::Resource;

/// A time as the API writes it: whole seconds, UTC.
pub(crate) fn time(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// One field of `metadata`, when it is text that is not empty.
pub(crate) fn text<'a>(object: &'a Value, field: &str) -> Option<&'a str> {
    object
        .get("metadata")?
        .get(field)?
        .as_str()
        .filter(|text| !text.is_empty())
}

pub(crate) fn is_terminating(object: &Value) -> bool {
    text(object, "deletionTimestamp").is_some()
}

/// `metadata.finalizers`.
pub(crate) fn finalizers(object: &Value) -> Vec<String> {
    let finalizers = object
        .pointer("/metadata/finalizers")
        .and_then(Value::as_array);
    finalizers
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

pub(crate) fn set_finalizers(object: &mut Value, finalizers: &[String]) {
    if finalizers.is_empty() {
        metadata(object).remove("finalizers");
    } else {
        set(object, "finalizers", json!(finalizers));
    }
}

/// `metadata`, made when it is not there.
pub(crate) fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = json!({});
    }
    // The two branches that cannot be reached give the caller something harmless to write to.
    let slot = match object {
        Value::Object(fields) => fields.entry("metadata").or_insert_with(|| json!({})),
        other => other,
    };
    if !slot.is_object() {
        *slot = json!({});
    }
    as_map(slot)
}

/// The fields of a value, which becomes an object when it is none.
pub(crate) fn as_map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(fields) => fields,
        // Made an object above.
        _ => unreachable!(),
    }
}

pub(crate) fn set(object: &mut Value, field: &str, value: Value) {
    metadata(object).insert(field.to_owned(), value);
}

/// Takes over from the stored object what no client may write.
pub(crate) fn keep_server_fields(new: &mut Value, old: &Value) {
    const KEPT: [&str; 6] = [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "generateName",
    ];
    let metadata = metadata(new);
    for field in KEPT {
        match old.pointer(&format!("/metadata/{field}")) {
            Some(value) => metadata.insert(field.to_owned(), value.clone()),
            None => metadata.remove(field),
        };
    }
    for field in ["resourceVersion", "name", "namespace"] {
        if let Some(value) = old.pointer(&format!("/metadata/{field}")) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    metadata.remove("selfLink");
}

/// Keeps the half of an object that this request may not write: `status` of the main resource, all else of `/status`.
pub(crate) fn isolate_status(new: &mut Value, old: &Value, status_request: bool) {
    let mut kept = if status_request {
        old.clone()
    } else {
        new.clone()
    };
    let source = if status_request { &*new } else { old };
    match source.get("status") {
        Some(status) => as_map(&mut kept).insert("status".to_owned(), status.clone()),
        None => as_map(&mut kept).remove("status"),
    };
    if status_request && let Some(managed) = new.pointer("/metadata/managedFields") {
        set(&mut kept, "managedFields", managed.clone());
    }
    *new = kept;
}

/// Whether a change raises the generation: anything but metadata and status is different.
pub(crate) fn desires_differ(resource: &dyn Resource, new: &Value, old: &Value) -> bool {
    let desired = |object: &Value| -> Map<String, Value> {
        let mut fields = object.as_object().cloned().unwrap_or_default();
        fields.remove("metadata");
        fields.remove("apiVersion");
        if resource.has_status() {
            fields.remove("status");
        }
        fields
    };
    desired(new) != desired(old)
}

/// `metadata.generation`, 0 when there is none.
pub(crate) fn generation(object: &Value) -> i64 {
    object
        .pointer("/metadata/generation")
        .and_then(Value::as_i64)
        .unwrap_or(0)
}

/// The five letters that `generateName` adds; vowels and look-alikes are left out, as on a real server.
pub(crate) fn random_suffix() -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    (0..5)
        .map(|_| {
            LETTERS
                .get(rand::random_range(0..LETTERS.len()))
                .copied()
                .map_or('x', char::from)
        })
        .collect()
}
