//! Validation by a structural schema, with the API server's words.

use std::collections::HashMap;

use regex::Regex;
use serde_json::{Value, json};

use super::super::FieldError;

/// The faults that keep rules from being evaluated.
const BLOCKING: &[&str] = &[
    "FieldValueNotSupported",
    "FieldValueRequired",
    "FieldValueTooLong",
    "FieldValueTooMany",
    "FieldValueTypeInvalid",
];

/// Every fault of an object.
pub(super) fn validate(
    object: &Value,
    schema: &Value,
    patterns: &HashMap<String, Regex>,
    has_rules: bool,
) -> Vec<FieldError> {
    let mut checker = Checker {
        patterns,
        faults: Vec::new(),
    };
    checker.value(object, schema, "");
    let mut faults = checker.faults;
    let mut repeated = Vec::new();
    list_faults(object, schema, "", &mut repeated);
    faults.extend(repeated);
    if has_rules && faults.iter().any(|fault| BLOCKING.contains(&fault.reason)) {
        let detail = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
        faults.push(FieldError::invalid("<nil>", &Value::Null, detail));
    }
    faults
}

/// The name of a value's type, as messages tell it.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

struct Checker<'a> {
    patterns: &'a HashMap<String, Regex>,
    faults: Vec<FieldError>,
}

impl Checker<'_> {
    fn value(&mut self, value: &Value, schema: &Value, path: &str) {
        if value.is_null() && schema.get("nullable") == Some(&Value::Bool(true)) {
            return;
        }
        if !self.types(value, schema, path) {
            return;
        }
        if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
            && !allowed.contains(value)
        {
            let shown = allowed
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ");
            self.faults.push(FieldError {
                reason: "FieldValueNotSupported",
                field: path.to_owned(),
                message: format!("Unsupported value: {value}: supported values: {shown}"),
            });
        }
        match value {
            Value::String(text) => self.string(text, schema, path),
            Value::Number(_) => self.number(value, schema, path),
            Value::Array(items) => self.array(items, schema, path),
            Value::Object(_) => self.object(value, schema, path),
            _ => {}
        }
        self.combinations(value, schema, path);
    }

    fn invalid(&mut self, path: &str, value: &Value, detail: &str) {
        self.faults.push(FieldError::invalid(
            path,
            value,
            &format!("{path} in body {detail}"),
        ));
    }

    fn wrong_type(&mut self, path: &str, shown: &str, wanted: &str) {
        let detail = format!("{path} in body must be of type {wanted}: {shown:?}");
        let mut fault = FieldError::invalid(path, &json!(shown), &detail);
        fault.reason = "FieldValueTypeInvalid";
        self.faults.push(fault);
    }

    /// Whether the type is one of those wanted; faults are noted.
    fn types(&mut self, value: &Value, schema: &Value, path: &str) -> bool {
        let found = type_name(value);
        if schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
            if !matches!(found, "integer" | "string") {
                self.wrong_type(path, found, "integer,string");
                return false;
            }
            return true;
        }
        let Some(wanted) = schema.get("type").and_then(Value::as_str) else {
            return true;
        };
        let whole = value.as_f64().is_some_and(|float| float.fract() == 0.0);
        if wanted == found
            || (wanted == "number" && found == "integer")
            || (wanted == "integer" && whole)
        {
            return true;
        }
        self.wrong_type(path, found, wanted);
        false
    }

    fn string(&mut self, text: &str, schema: &Value, path: &str) {
        let value = json!(text);
        let limit = |key: &str| {
            schema
                .get(key)
                .and_then(Value::as_u64)
                .and_then(|limit| usize::try_from(limit).ok())
        };
        let length = text.chars().count();
        if let Some(most) = limit("maxLength").filter(|most| length > *most) {
            self.faults.push(FieldError::too_long(path, most, "bytes"));
        } else if let Some(least) = limit("minLength").filter(|least| length < *least) {
            self.invalid(
                path,
                &value,
                &format!("should be at least {least} chars long"),
            );
        } else if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
            && self
                .patterns
                .get(pattern)
                .is_some_and(|compiled| !compiled.is_match(text))
        {
            self.invalid(path, &value, &format!("should match '{pattern}'"));
        }
        if let Some(format) = schema.get("format").and_then(Value::as_str)
            && !has_format(text, format)
        {
            self.wrong_type(path, text, format);
        }
    }

    fn number(&mut self, value: &Value, schema: &Value, path: &str) {
        let Some(number) = value.as_f64() else { return };
        let limit = |key: &str| schema.get(key).filter(|limit| limit.is_number());
        let exclusive = |key: &str| schema.get(key) == Some(&Value::Bool(true));
        if let Some(most) = limit("maximum")
            && let Some(bound) = most.as_f64()
        {
            if exclusive("exclusiveMaximum") {
                if number >= bound {
                    self.invalid(path, value, &format!("should be less than {most}"));
                }
            } else if number > bound {
                self.invalid(
                    path,
                    value,
                    &format!("should be less than or equal to {most}"),
                );
            }
        }
        if let Some(least) = limit("minimum")
            && let Some(bound) = least.as_f64()
        {
            if exclusive("exclusiveMinimum") {
                if number <= bound {
                    self.invalid(path, value, &format!("should be greater than {least}"));
                }
            } else if number < bound {
                self.invalid(
                    path,
                    value,
                    &format!("should be greater than or equal to {least}"),
                );
            }
        }
        if let Some(factor) = limit("multipleOf")
            && factor.as_f64().is_some_and(|factor| {
                factor != 0.0 && (number / factor).fract().abs() > f64::EPSILON
            })
        {
            self.invalid(path, value, &format!("should be a multiple of {factor}"));
        }
        self.integer_format(value, schema, path);
    }

    fn integer_format(&mut self, value: &Value, schema: &Value, path: &str) {
        let fits = match schema.get("format").and_then(Value::as_str) {
            Some("int32") => value
                .as_f64()
                .is_some_and(|number| number.abs() <= f64::from(i32::MAX)),
            Some("int64") => value.as_f64().is_some_and(|number| number.abs() <= 9.3e18),
            _ => true,
        };
        if !fits {
            let format = schema
                .get("format")
                .and_then(Value::as_str)
                .unwrap_or_default();
            self.invalid(
                path,
                value,
                &format!("must be of type integer with format {format}"),
            );
        }
    }

    fn array(&mut self, items: &[Value], schema: &Value, path: &str) {
        let count = items.len() as u64;
        let limit = |key: &str| schema.get(key).and_then(Value::as_u64);
        if let Some(most) = limit("maxItems").filter(|most| count > *most) {
            self.too_many(path, count, most);
        }
        if let Some(least) = limit("minItems").filter(|least| count < *least) {
            self.invalid(
                path,
                &json!(count),
                &format!("should have at least {least} items"),
            );
        }
        if let Some(inner) = schema.get("items") {
            for (position, item) in items.iter().enumerate() {
                self.value(item, inner, &format!("{path}[{position}]"));
            }
        }
    }

    fn too_many(&mut self, path: &str, count: u64, most: u64) {
        let message = format!("Too many: {count}: must have at most {most} items");
        self.faults.push(FieldError {
            reason: "FieldValueTooMany",
            field: path.to_owned(),
            message,
        });
    }

    fn object(&mut self, value: &Value, schema: &Value, path: &str) {
        let Value::Object(map) = value else { return };
        let join = |key: &str| {
            if path.is_empty() {
                key.to_owned()
            } else {
                format!("{path}.{key}")
            }
        };
        let count = map.len() as u64;
        if let Some(most) = schema
            .get("maxProperties")
            .and_then(Value::as_u64)
            .filter(|most| count > *most)
        {
            self.too_many(path, count, most);
        }
        if let Some(least) = schema
            .get("minProperties")
            .and_then(Value::as_u64)
            .filter(|least| count < *least)
        {
            self.invalid(
                path,
                &json!(count),
                &format!("should have at least {least} properties"),
            );
        }
        for key in schema
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            if !map.contains_key(key) {
                self.faults.push(FieldError::required(join(key), ""));
            }
        }
        let properties = schema.get("properties").and_then(Value::as_object);
        for (key, item) in map {
            if path.is_empty() && matches!(key.as_str(), "metadata" | "apiVersion" | "kind") {
                continue;
            }
            let inner = properties
                .and_then(|properties| properties.get(key))
                .or_else(|| schema.get("additionalProperties"));
            if let Some(inner @ Value::Object(_)) = inner {
                self.value(item, inner, &join(key));
            }
        }
    }

    fn passes(&self, value: &Value, schema: &Value, path: &str) -> bool {
        let mut inner = Checker {
            patterns: self.patterns,
            faults: Vec::new(),
        };
        inner.value(value, schema, path);
        inner.faults.is_empty()
    }

    fn combinations(&mut self, value: &Value, schema: &Value, path: &str) {
        let count = |key: &str| -> Option<(usize, usize)> {
            let list = schema.get(key)?.as_array()?;
            Some((
                list.iter()
                    .filter(|inner| self.passes(value, inner, path))
                    .count(),
                list.len(),
            ))
        };
        let mut details = Vec::new();
        // `anyOf` beside int-or-string only restates the two types.
        if schema.get("x-kubernetes-int-or-string").is_none()
            && count("anyOf").is_some_and(|(passed, _)| passed == 0)
        {
            details.push("must validate at least one schema (anyOf)".to_owned());
        }
        match count("oneOf") {
            Some((0, _)) => details
                .push("must validate one and only one schema (oneOf). Found none valid".to_owned()),
            Some((passed, _)) if passed > 1 => {
                details.push(format!("must validate one and only one schema (oneOf). Found {passed} valid alternatives"));
            }
            _ => {}
        }
        if count("allOf").is_some_and(|(passed, all)| passed != all) {
            details.push("must validate all the schemas (allOf)".to_owned());
        }
        if schema
            .get("not")
            .is_some_and(|inner| self.passes(value, inner, path))
        {
            details.push("must not validate the schema (not)".to_owned());
        }
        for detail in details {
            self.invalid(path, value, &detail);
        }
    }
}

/// Whether a string has this format; formats that the API server does not check pass.
fn has_format(text: &str, format: &str) -> bool {
    match format {
        "date-time" | "datetime" => text.parse::<jiff::Timestamp>().is_ok(),
        "date" => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
        "uuid" => uuid::Uuid::parse_str(text).is_ok(),
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
        "byte" => base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).is_ok(),
        _ => true,
    }
}

/// Items that occur twice in lists that are sets or maps.
fn list_faults(value: &Value, schema: &Value, path: &str, faults: &mut Vec<FieldError>) {
    match value {
        Value::Object(map) => {
            let properties = schema.get("properties").and_then(Value::as_object);
            for (key, item) in map {
                let inner = properties
                    .and_then(|properties| properties.get(key))
                    .or_else(|| schema.get("additionalProperties"));
                if let Some(inner) = inner {
                    let here = if path.is_empty() {
                        key.clone()
                    } else {
                        format!("{path}.{key}")
                    };
                    list_faults(item, inner, &here, faults);
                }
            }
        }
        Value::Array(items) => {
            let mut seen: Vec<Value> = Vec::new();
            for (position, item) in items.iter().enumerate() {
                let here = format!("{path}[{position}]");
                let identity = match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
                    Some("set") => item.clone(),
                    Some("map") => identity(item, schema),
                    _ => Value::Null,
                };
                if !identity.is_null() {
                    if seen.contains(&identity) {
                        faults.push(FieldError::duplicate(here.clone(), &identity));
                    }
                    seen.push(identity);
                }
                if let Some(inner) = schema.get("items") {
                    list_faults(item, inner, &here, faults);
                }
            }
        }
        _ => {}
    }
}

fn identity(item: &Value, schema: &Value) -> Value {
    let keys = schema
        .get("x-kubernetes-list-map-keys")
        .and_then(Value::as_array);
    let keys = keys.into_iter().flatten().filter_map(Value::as_str);
    Value::Object(
        keys.map(|key| {
            (
                key.to_owned(),
                item.get(key).cloned().unwrap_or(Value::Null),
            )
        })
        .collect(),
    )
}
