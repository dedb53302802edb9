//! Faults of custom resource definitions: names, versions and the structure of their schemas.

use serde_json::{Value, json};

use super::super::FieldError;
use super::super::meta::{NameRule, name_faults};

/// Every fault of a definition's spec and name.
pub(crate) fn faults(crd: &Value) -> Vec<FieldError> {
    let text = |pointer: &str| {
        crd.pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let mut faults = Vec::new();
    let (group, plural) = (text("/spec/group"), text("/spec/names/plural"));
    let name = text("/metadata/name");
    if name != format!("{plural}.{group}") {
        faults.push(FieldError::invalid(
            "metadata.name",
            &json!(name),
            "must be spec.names.plural+\".\"+spec.group",
        ));
    }
    if group.is_empty() {
        faults.push(FieldError::required("spec.group", ""));
    } else if !group.contains('.') {
        faults.push(FieldError::invalid(
            "spec.group",
            &json!(group),
            "should be a domain with at least one dot",
        ));
    }
    match text("/spec/scope") {
        "Namespaced" | "Cluster" => {}
        "" => faults.push(FieldError::required("spec.scope", "")),
        other => faults.push(FieldError::not_supported(
            "spec.scope",
            &json!(other),
            &["Cluster", "Namespaced"],
        )),
    }
    faults.extend(name_faults_of(crd));
    faults.extend(version_faults(crd));
    faults
}

fn name_faults_of(crd: &Value) -> Vec<FieldError> {
    let mut faults = Vec::new();
    for key in ["plural", "singular", "kind", "listKind"] {
        let field = format!("spec.names.{key}");
        let value = crd
            .pointer(&format!("/spec/names/{key}"))
            .and_then(Value::as_str)
            .unwrap_or_default();
        if value.is_empty() {
            faults.push(FieldError::required(field, ""));
            continue;
        }
        let lower = value.to_lowercase();
        let checked = if matches!(key, "kind" | "listKind") {
            lower.as_str()
        } else {
            value
        };
        for fault in name_faults(NameRule::Dns1035, checked) {
            faults.push(FieldError::invalid(field.clone(), &json!(value), &fault));
        }
    }
    faults
}

fn version_faults(crd: &Value) -> Vec<FieldError> {
    let mut faults = Vec::new();
    let none = Vec::new();
    let versions = crd
        .pointer("/spec/versions")
        .and_then(Value::as_array)
        .unwrap_or(&none);
    let stored = versions
        .iter()
        .filter(|version| version.get("storage") == Some(&Value::Bool(true)))
        .count();
    if stored != 1 {
        let names: Vec<&Value> = versions
            .iter()
            .filter_map(|version| version.get("name"))
            .collect();
        let detail = "must have exactly one version marked as storage version";
        faults.push(FieldError::invalid("spec.versions", &json!(names), detail));
    }
    let schemas: Vec<&Value> = versions
        .iter()
        .map(|version| {
            version
                .pointer("/schema/openAPIV3Schema")
                .unwrap_or(&Value::Null)
        })
        .collect();
    let same = schemas.windows(2).all(|pair| pair.first() == pair.last());
    for (position, schema) in schemas.into_iter().enumerate() {
        let field = if same {
            "spec.validation.openAPIV3Schema".to_owned()
        } else {
            format!("spec.versions[{position}].schema.openAPIV3Schema")
        };
        if schema.is_null() {
            faults.push(FieldError::required(
                format!("spec.versions[{position}].schema.openAPIV3Schema"),
                "schemas are required",
            ));
        } else if !same || position == 0 {
            structure(schema, &field, "at the root", &mut faults);
        }
    }
    faults
}

/// A structural schema says the type of every value.
fn structure(schema: &Value, field: &str, place: &str, faults: &mut Vec<FieldError>) {
    let flag = |key: &str| schema.get(key) == Some(&Value::Bool(true));
    let untyped =
        flag("x-kubernetes-int-or-string") || flag("x-kubernetes-preserve-unknown-fields");
    match schema.get("type").and_then(Value::as_str) {
        None | Some("") if place == "at the root" || !untyped => {
            faults.push(FieldError::required(
                format!("{field}.type"),
                &format!("must not be empty {place}"),
            ));
        }
        Some(other) if place == "at the root" && other != "object" => {
            faults.push(FieldError::invalid(
                format!("{field}.type"),
                &json!(other),
                "must be object at the root",
            ));
        }
        Some(other)
            if ![
                "string", "integer", "number", "boolean", "array", "object", "",
            ]
            .contains(&other) =>
        {
            let supported = ["array", "boolean", "integer", "number", "object", "string"];
            faults.push(FieldError::not_supported(
                format!("{field}.type"),
                &json!(other),
                &supported,
            ));
        }
        Some("array") if schema.get("items").is_none() => {
            faults.push(FieldError::required(
                format!("{field}.items"),
                "must be specified",
            ));
        }
        _ => {}
    }
    pattern_faults(schema, field, faults);
    for (key, inner) in schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        structure(
            inner,
            &format!("{field}.properties[{key}]"),
            "for specified object fields",
            faults,
        );
    }
    if let Some(inner) = schema.get("items") {
        structure(
            inner,
            &format!("{field}.items"),
            "for specified array items",
            faults,
        );
    }
    if let Some(inner @ Value::Object(_)) = schema.get("additionalProperties") {
        structure(
            inner,
            &format!("{field}.additionalProperties"),
            "for specified object fields",
            faults,
        );
    }
}

fn pattern_faults(schema: &Value, field: &str, faults: &mut Vec<FieldError>) {
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
        && let Err(error) = regex::Regex::new(pattern)
    {
        let detail = format!("must be a valid regular expression, but isn't: {error}");
        faults.push(FieldError::invalid(
            format!("{field}.pattern"),
            &json!(pattern),
            &detail,
        ));
    }
}
