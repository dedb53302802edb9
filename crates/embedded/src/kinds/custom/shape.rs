//! Structural schemas as shapes: pruning of unknown fields, and defaults.

use std::collections::HashMap;

use regex::Regex;
use serde_json::{Map, Value};

fn flag(schema: &Value, key: &str) -> bool {
    schema.get(key) == Some(&Value::Bool(true))
}

/// Every pattern of a schema, compiled once. One that is no pattern is left out: the definition's check names it.
pub(super) fn collect_patterns(schema: &Value, into: &mut HashMap<String, Regex>) {
    match schema {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(pattern) if key == "pattern" => {
                        if let Ok(compiled) = Regex::new(pattern) {
                            into.insert(pattern.clone(), compiled);
                        }
                    }
                    other => collect_patterns(other, into),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_patterns(item, into)),
        _ => {}
    }
}

/// Whether any part of the schema carries rules.
pub(super) fn has_rules(schema: &Value) -> bool {
    match schema {
        Value::Object(map) => {
            map.contains_key("x-kubernetes-validations") || map.values().any(has_rules)
        }
        Value::Array(items) => items.iter().any(has_rules),
        _ => false,
    }
}

/// Drops the fields that the schema does not have; their paths are collected.
pub(super) fn prune(
    value: &mut Value,
    schema: &Value,
    root: bool,
    path: &str,
    unknown: &mut Vec<String>,
) {
    let preserve = flag(schema, "x-kubernetes-preserve-unknown-fields");
    match value {
        Value::Object(map) => {
            let embedded = root || flag(schema, "x-kubernetes-embedded-resource");
            prune_fields(map, schema, (preserve, embedded), path, unknown);
        }
        Value::Array(items) => {
            let Some(inner) = schema.get("items") else {
                return;
            };
            for (position, item) in items.iter_mut().enumerate() {
                prune(item, inner, false, &format!("{path}[{position}]"), unknown);
            }
        }
        _ => {}
    }
}

fn prune_fields(
    map: &mut Map<String, Value>,
    schema: &Value,
    (preserve, embedded): (bool, bool),
    path: &str,
    unknown: &mut Vec<String>,
) {
    let properties = schema.get("properties").and_then(Value::as_object);
    let others = schema.get("additionalProperties");
    map.retain(|key, value| {
        let here = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        if embedded && matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
            return true;
        }
        if let Some(inner) = properties.and_then(|properties| properties.get(key)) {
            prune(value, inner, false, &here, unknown);
            return true;
        }
        match others {
            Some(inner @ Value::Object(_)) => {
                prune(value, inner, false, &here, unknown);
                true
            }
            Some(Value::Bool(true)) => true,
            _ if preserve => true,
            _ => {
                unknown.push(here);
                false
            }
        }
    });
}

/// Fills in defaults, and in place of nulls where null is not allowed.
pub(super) fn fill(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(map) => {
            for (key, inner) in schema
                .get("properties")
                .and_then(Value::as_object)
                .into_iter()
                .flatten()
            {
                if let Some(default) = inner.get("default") {
                    let replace = match map.get(key) {
                        None => true,
                        Some(Value::Null) => !flag(inner, "nullable"),
                        Some(_) => false,
                    };
                    if replace {
                        map.insert(key.clone(), default.clone());
                    }
                }
                if let Some(item) = map.get_mut(key) {
                    fill(item, inner);
                }
            }
            if let Some(inner @ Value::Object(_)) = schema.get("additionalProperties") {
                let properties = schema.get("properties").and_then(Value::as_object);
                for (key, item) in map {
                    if properties.is_none_or(|properties| !properties.contains_key(key)) {
                        fill(item, inner);
                    }
                }
            }
        }
        Value::Array(items) => {
            if let Some(inner) = schema.get("items") {
                for item in items {
                    fill(item, inner);
                }
            }
        }
        _ => {}
    }
}
