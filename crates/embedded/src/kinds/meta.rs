//! What holds for the metadata of every kind: names, labels, annotations, owners, finalizers; and quantities.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value, json};

use super::FieldError;

/// How the names of a kind are formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NameRule {
    /// Up to 253 characters, dots allowed.
    Subdomain,
    /// Up to 63 characters, no dots.
    Label,
    /// A label that starts with a letter (Services until 1.34's relaxation).
    Dns1035,
    /// A segment of a path (RBAC): anything but `.`, `..`, `/` and `%`.
    PathSegment,
}

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const DNS1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const ANNOTATIONS_LIMIT: usize = 256 * 1024;

macro_rules! pattern {
    ($name:ident, $text:literal) => {
        static $name: LazyLock<Regex> =
            LazyLock::new(|| Regex::new($text).expect("a valid pattern"));
    };
}
pattern!(
    RE_SUBDOMAIN,
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
);
pattern!(RE_LABEL, "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$");
pattern!(RE_DNS1035, "^[a-z]([-a-z0-9]*[a-z0-9])?$");
pattern!(RE_QUALIFIED, "^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$");
pattern!(
    RE_LABEL_VALUE,
    "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"
);
pattern!(RE_CONFIG_KEY, "^[-._a-zA-Z0-9]+$");
pattern!(RE_QUANTITY, "^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$");
pattern!(
    RE_SUFFIX,
    "^(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][-+]?[0-9]+)?$"
);
pattern!(RE_DECIMAL, r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)$");

/// What is wrong with `name` under this rule; empty when nothing is.
pub(crate) fn name_faults(rule: NameRule, name: &str) -> Vec<String> {
    let (limit, pattern, text): (usize, &Regex, &str) = match rule {
        NameRule::Subdomain => (253, &RE_SUBDOMAIN, SUBDOMAIN),
        NameRule::Label => (63, &RE_LABEL, LABEL),
        NameRule::Dns1035 => (63, &RE_DNS1035, DNS1035),
        NameRule::PathSegment => return path_segment_faults(name),
    };
    let mut faults = Vec::new();
    if name.len() > limit {
        faults.push(format!("must be no more than {limit} bytes"));
    }
    if !pattern.is_match(name) {
        faults.push(text.to_owned());
    }
    faults
}

fn path_segment_faults(name: &str) -> Vec<String> {
    if name == "." || name == ".." {
        return vec![format!("may not be '{name}'")];
    }
    ['/', '%']
        .into_iter()
        .filter(|letter| name.contains(*letter))
        .map(|letter| format!("may not contain '{letter}'"))
        .collect()
}

/// What is wrong with a label or annotation key.
pub(crate) fn qualified_name_faults(key: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let parts: Vec<&str> = key.split('/').collect();
    let name = match parts.as_slice() {
        [name] => *name,
        [prefix, name] => {
            if prefix.is_empty() {
                faults.push("prefix part must be non-empty".to_owned());
            } else {
                faults.extend(
                    name_faults(NameRule::Subdomain, prefix)
                        .into_iter()
                        .map(|fault| format!("prefix part {fault}")),
                );
            }
            *name
        }
        _ => {
            return vec![format!(
                "a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        faults.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        faults.push("name part must be no more than 63 bytes".to_owned());
    }
    if !RE_QUALIFIED.is_match(name) {
        faults.push(QUALIFIED.to_owned());
    }
    faults
}

/// Faults of the value of a label.
pub(crate) fn label_value_faults(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.len() > 63 {
        faults.push("must be no more than 63 bytes".to_owned());
    }
    if !RE_LABEL_VALUE.is_match(text) {
        faults.push(LABEL_VALUE.to_owned());
    }
    faults
}

/// Faults of a map of labels (or of a selector's `matchLabels`).
pub(crate) fn label_faults(labels: Option<&Value>, field: &str) -> Vec<FieldError> {
    let mut faults = Vec::new();
    for (key, value) in labels.and_then(Value::as_object).into_iter().flatten() {
        faults.extend(
            qualified_name_faults(key)
                .into_iter()
                .map(|fault| FieldError::invalid(field, &json!(key), &fault)),
        );
        let text = value.as_str().unwrap_or_default();
        faults.extend(
            label_value_faults(text)
                .iter()
                .map(|fault| FieldError::invalid(field, value, fault)),
        );
    }
    faults
}

/// Faults of the keys of a ConfigMap or Secret.
pub(crate) fn config_key_faults(key: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if key.len() > 253 {
        faults.push("must be no more than 253 bytes".to_owned());
    }
    if !RE_CONFIG_KEY.is_match(key) {
        faults.push(CONFIG_KEY.to_owned());
    } else if key == "." || key == ".." {
        faults.push(format!("must not be '{key}'"));
    } else if key.starts_with("..") {
        faults.push("must not start with '..'".to_owned());
    }
    faults
}

/// Faults of the metadata of a new object.
pub(crate) fn validate(object: &Value, rule: NameRule) -> Vec<FieldError> {
    let empty = Map::new();
    let meta = object
        .get("metadata")
        .and_then(Value::as_object)
        .unwrap_or(&empty);
    let text = |key: &str| meta.get(key).and_then(Value::as_str).unwrap_or_default();
    let (name, generate) = (text("name"), text("generateName"));
    let mut faults = Vec::new();
    if !generate.is_empty() {
        let trimmed = generate.trim_end_matches(['-', '.']);
        let faults_of = name_faults(
            rule,
            if trimmed.is_empty() {
                generate
            } else {
                trimmed
            },
        );
        faults.extend(
            faults_of
                .iter()
                .map(|fault| FieldError::invalid("metadata.generateName", &json!(generate), fault)),
        );
    }
    if name.is_empty() {
        faults.push(FieldError::required(
            "metadata.name",
            "name or generateName is required",
        ));
    } else {
        faults.extend(
            name_faults(rule, name)
                .iter()
                .map(|fault| FieldError::invalid("metadata.name", &json!(name), fault)),
        );
    }
    faults.extend(label_faults(meta.get("labels"), "metadata.labels"));
    faults.extend(annotation_faults(meta.get("annotations")));
    faults.extend(owner_faults(meta.get("ownerReferences")));
    faults.extend(finalizer_faults(meta.get("finalizers")));
    faults
}

fn annotation_faults(annotations: Option<&Value>) -> Vec<FieldError> {
    let mut faults = Vec::new();
    let mut size = 0;
    for (key, value) in annotations.and_then(Value::as_object).into_iter().flatten() {
        let lower = key.to_lowercase();
        faults.extend(
            qualified_name_faults(&lower)
                .iter()
                .map(|fault| FieldError::invalid("metadata.annotations", &json!(key), fault)),
        );
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > ANNOTATIONS_LIMIT {
        faults.push(FieldError::too_long(
            "metadata.annotations",
            ANNOTATIONS_LIMIT,
            "bytes",
        ));
    }
    faults
}

fn owner_faults(owners: Option<&Value>) -> Vec<FieldError> {
    let mut faults = Vec::new();
    let mut controllers = Vec::new();
    for owner in owners.and_then(Value::as_array).into_iter().flatten() {
        for key in ["apiVersion", "kind", "name", "uid"] {
            if owner
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .is_empty()
            {
                let field = format!("metadata.ownerReferences.{key}");
                let detail = if key == "apiVersion" {
                    "version must not be empty"
                } else {
                    "must not be empty"
                };
                faults.push(FieldError::invalid(field, &json!(""), detail));
            }
        }
        let text = |key: &str| owner.get(key).and_then(Value::as_str).unwrap_or_default();
        if (text("apiVersion"), text("kind")) == ("v1", "Event") {
            faults.push(FieldError {
                reason: "FieldValueInvalid",
                field: "metadata.ownerReferences".to_owned(),
                message: format!(
                    "Invalid value: {}: /v1, Kind=Event is disallowed from being an owner",
                    reference_in_go(owner)
                ),
            });
        }
        if owner.get("controller") == Some(&Value::Bool(true)) {
            controllers.push(owner);
        }
    }
    if let [first, second, ..] = controllers.as_slice() {
        let shown = |owner: &Value| {
            format!(
                "{}/{}",
                owner
                    .get("kind")
                    .and_then(Value::as_str)
                    .unwrap_or_default(),
                owner
                    .get("name")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
            )
        };
        let detail = format!(
            "Only one reference can have Controller set to true. Found \"true\" in references for {} and {}",
            shown(first),
            shown(second)
        );
        let all: Vec<String> = owners
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .map(reference_in_go)
            .collect();
        faults.push(FieldError {
            reason: "FieldValueInvalid",
            field: "metadata.ownerReferences".to_owned(),
            message: format!("Invalid value: [{}]: {detail}", all.join(",")),
        });
    }
    faults
}

/// A reference as Go writes it: its fields in the order of the type.
fn reference_in_go(owner: &Value) -> String {
    let order = [
        "apiVersion",
        "kind",
        "name",
        "uid",
        "controller",
        "blockOwnerDeletion",
    ];
    let fields: Vec<String> = order
        .iter()
        .filter_map(|key| Some(format!("\"{key}\":{}", owner.get(*key)?)))
        .collect();
    format!("{{{}}}", fields.join(","))
}

fn finalizer_faults(finalizers: Option<&Value>) -> Vec<FieldError> {
    let mut faults = Vec::new();
    let names: Vec<&str> = finalizers
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for name in &names {
        faults.extend(
            qualified_name_faults(name)
                .iter()
                .map(|fault| FieldError::invalid("metadata.finalizers", &json!(name), fault)),
        );
        if !name.contains('/') && !STANDARD_FINALIZERS.contains(name) {
            let position = names.iter().position(|other| other == name).unwrap_or(0);
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            let field = format!("metadata.finalizers[{position}]");
            faults.push(FieldError::invalid(field, &json!(name), detail));
        }
    }
    if names.contains(&"orphan") && names.contains(&"foregroundDeletion") {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        faults.push(FieldError::invalid(
            "metadata.finalizers",
            finalizers.unwrap_or(&Value::Null),
            detail,
        ));
    }
    faults
}

/// Faults of the metadata of a change.
pub(crate) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let of = |object: &Value, key: &str| {
        object
            .pointer(&format!("/metadata/{key}"))
            .cloned()
            .unwrap_or(Value::Null)
    };
    let mut faults = Vec::new();
    for key in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        let (now, before) = (of(new, key), of(old, key));
        if now != before {
            faults.push(FieldError::invalid(
                format!("metadata.{key}"),
                &now,
                "field is immutable",
            ));
        }
    }
    if !of(old, "deletionTimestamp").is_null() {
        let before = of(old, "finalizers");
        let before = before.as_array().cloned().unwrap_or_default();
        let added: Vec<String> = of(new, "finalizers")
            .as_array()
            .into_iter()
            .flatten()
            .filter(|name| !before.contains(name))
            .map(ToString::to_string)
            .collect();
        if !added.is_empty() {
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.join(", ")
            );
            let fault = FieldError::forbidden("metadata.finalizers", &detail);
            faults.extend([fault.clone(), fault]);
        }
    }
    faults.extend(label_faults(
        new.pointer("/metadata/labels"),
        "metadata.labels",
    ));
    faults.extend(annotation_faults(new.pointer("/metadata/annotations")));
    faults.extend(owner_faults(new.pointer("/metadata/ownerReferences")));
    faults.extend(finalizer_faults(new.pointer("/metadata/finalizers")));
    faults
}

/// Finalizers without a domain that Kubernetes itself uses.
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

/// Reads a quantity; numbers become text, in the one form that Kubernetes keeps.
pub(crate) fn quantity(value: &Value) -> Result<Value, String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return Err(QUANTITY_FAULT.to_owned()),
    };
    let well_formed = RE_QUANTITY.captures(&text).is_some_and(|parts| {
        let part = |position| parts.get(position).map_or("", |found| found.as_str());
        RE_DECIMAL.is_match(part(1)) && RE_SUFFIX.is_match(part(2))
    });
    if well_formed {
        Ok(Value::String(
            super::quantity::canonical(&text).unwrap_or(text),
        ))
    } else {
        Err(QUANTITY_FAULT.to_owned())
    }
}

const QUANTITY_FAULT: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// A quantity as a number of units; `None` when it is none.
pub(crate) fn quantity_value(text: &str) -> Option<f64> {
    let split = text
        .find(|letter: char| !matches!(letter, '0'..='9' | '.' | '+' | '-'))
        .unwrap_or(text.len());
    let (digits, suffix) = text.split_at(split);
    let number: f64 = digits.parse().ok()?;
    let factor = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1_048_576.0,
        "Gi" => 1_073_741_824.0,
        "Ti" => 1_099_511_627_776.0,
        "Pi" => 1_125_899_906_842_624.0,
        "Ei" => 1_152_921_504_606_846_976.0,
        other => return format!("{digits}{other}").parse().ok(),
    };
    Some(number * factor)
}
