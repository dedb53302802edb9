//! The smallest JSON merge patch (RFC 7396) between two statuses.

use serde_json::{Map, Value, json};

/// The merge patch that turns `old` into `new`; `None` when they are equal.
pub fn difference(old: &Value, new: &Value) -> Option<Value> {
    if old == new {
        return None;
    }
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        return Some(new.clone());
    };
    let mut patch = Map::new();
    for (name, value) in new {
        match old.get(name) {
            Some(known) => {
                if let Some(change) = difference(known, value) {
                    patch.insert(name.clone(), change);
                }
            }
            None => {
                patch.insert(name.clone(), value.clone());
            }
        }
    }
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    Some(Value::Object(patch))
}

/// The body of the request that writes a status: the change, and the version of the object that it was derived from.
pub fn document(change: &Value, resource_version: Option<&str>) -> Value {
    match resource_version {
        Some(version) => json!({ "metadata": { "resourceVersion": version }, "status": change }),
        None => json!({ "status": change }),
    }
}
