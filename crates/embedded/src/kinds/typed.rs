//! Reads JSON by the table of types, as Go's decoder reads it into a struct and writes it out again: wrong types are
//! errors in Go's words, unknown fields are collected, empty values that Go leaves out are left out.

use serde_json::{Map, Number, Value};

use super::types::{self, Field, Struct, Type};

/// What a reading found besides the object.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Paths of fields that the type does not have.
    pub unknown: Vec<String>,
    /// The object is a part of one (a configuration that is applied): nothing is left out or added.
    pub partial: bool,
}

/// The way to the value that is read.
struct Place<'a> {
    /// Name of the innermost struct, as Go's decoder tells it.
    owner: &'a str,
    /// Field names only, as Go's decoder tells them.
    go_path: String,
    /// With list positions, as unknown fields are told.
    path: String,
    go_type: &'a str,
}

/// Reads `value` as the struct `name`; `apiVersion` and `kind` of an object are passed over by `root`.
pub(crate) fn read(
    name: &str,
    value: &Value,
    root: bool,
    findings: &mut Findings,
) -> Result<Value, String> {
    let Some(shape) = types::find(name) else {
        return Ok(value.clone());
    };
    let place = Place {
        owner: shape.short_name(),
        go_path: String::new(),
        path: String::new(),
        go_type: "",
    };
    let mut read = read_struct(shape, value, &place, root, findings)?;
    if root && let (Some(into), Some(from)) = (read.as_object_mut(), value.as_object()) {
        for key in ["apiVersion", "kind"] {
            if let Some(text) = from.get(key) {
                into.insert(key.to_owned(), text.clone());
            }
        }
    }
    Ok(read)
}

fn wrong(value: &Value, place: &Place<'_>) -> String {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    wrong_form(found, place)
}

fn wrong_form(found: &str, place: &Place<'_>) -> String {
    if place.go_path.is_empty() {
        return format!(
            "json: cannot unmarshal {found} into Go value of type v1.{}",
            place.owner
        );
    }
    format!(
        "json: cannot unmarshal {found} into Go struct field {}.{} of type {}",
        place.owner, place.go_path, place.go_type
    )
}

fn read_struct(
    shape: &Struct,
    value: &Value,
    place: &Place<'_>,
    root: bool,
    findings: &mut Findings,
) -> Result<Value, String> {
    let empty = Map::new();
    let from = match value {
        Value::Null => &empty,
        Value::Object(map) => map,
        other => return Err(wrong(other, place)),
    };
    for key in from.keys() {
        if shape.field(key).is_none() && !(root && (key == "apiVersion" || key == "kind")) {
            findings.unknown.push(join(&place.path, key));
        }
    }
    let mut into = Map::new();
    read_fields(shape, from, place, &mut into, findings)?;
    Ok(Value::Object(into))
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn read_fields(
    shape: &Struct,
    from: &Map<String, Value>,
    place: &Place<'_>,
    into: &mut Map<String, Value>,
    findings: &mut Findings,
) -> Result<(), String> {
    for field in &shape.fields {
        if let (Type::Struct(inner), true) = (&field.kind, field.inline) {
            if let Some(inner) = types::find(inner) {
                let place = Place {
                    owner: inner.short_name(),
                    go_path: place.go_path.clone(),
                    path: place.path.clone(),
                    go_type: place.go_type,
                };
                read_fields(inner, from, &place, into, findings)?;
            }
            continue;
        }
        let inner = Place {
            owner: shape.short_name(),
            go_path: join(&place.go_path, &field.name),
            path: join(&place.path, &field.name),
            go_type: &field.go_type,
        };
        let read = match from.get(&field.name) {
            None | Some(Value::Null) => None,
            Some(value) => Some(read_value(&field.kind, value, &inner, findings)?),
        };
        if let Some(value) = keep(field, read, &inner, findings) {
            into.insert(field.name.clone(), value);
        }
    }
    Ok(())
}

/// What Go writes for a field of this value.
fn keep(
    field: &Field,
    read: Option<Value>,
    place: &Place<'_>,
    findings: &mut Findings,
) -> Option<Value> {
    if field.pointer || findings.partial {
        return read;
    }
    let zero = zero(&field.kind, place, findings);
    let Some(value) = read else {
        let leave_out = match &field.kind {
            Type::Struct(_) | Type::Time | Type::MicroTime => {
                field.omit_zero || is_meta_time(field)
            }
            Type::Quantity | Type::IntOrString => true,
            _ => field.omit_empty || field.omit_zero,
        };
        return if leave_out { None } else { Some(zero) };
    };
    let is_empty = match &value {
        Value::String(text) => text.is_empty(),
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0) && field.kind != Type::IntOrString,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty() && !matches!(field.kind, Type::Struct(_)),
        Value::Null => true,
    };
    if is_empty && (field.omit_empty || field.omit_zero) {
        return None;
    }
    if field.omit_zero && value == zero {
        return None;
    }
    Some(value)
}

/// `creationTimestamp` is left out when it is not set; other times are written as null.
fn is_meta_time(field: &Field) -> bool {
    field.name == "creationTimestamp"
}

fn zero(kind: &Type, place: &Place<'_>, findings: &mut Findings) -> Value {
    match kind {
        Type::String | Type::Duration => Value::String(String::new()),
        Type::Bool => Value::Bool(false),
        Type::Int32 | Type::Int64 | Type::Float => Value::Number(Number::from(0)),
        Type::Struct(name) => types::find(name)
            .and_then(|shape| read_struct(shape, &Value::Null, place, false, findings).ok())
            .unwrap_or(Value::Null),
        _ => Value::Null,
    }
}

fn read_value(
    kind: &Type,
    value: &Value,
    place: &Place<'_>,
    findings: &mut Findings,
) -> Result<Value, String> {
    match kind {
        Type::String => value
            .as_str()
            .map(Value::from)
            .ok_or_else(|| wrong(value, place)),
        Type::Bool => value
            .as_bool()
            .map(Value::from)
            .ok_or_else(|| wrong(value, place)),
        Type::Int32 => read_integer(value, i64::from(i32::MIN), i64::from(i32::MAX), place),
        Type::Int64 => read_integer(value, i64::MIN, i64::MAX, place),
        Type::Float => value
            .is_number()
            .then(|| value.clone())
            .ok_or_else(|| wrong(value, place)),
        Type::Bytes => read_bytes(value, place),
        Type::Time | Type::MicroTime => read_time(kind, value, place),
        Type::Duration => value
            .as_str()
            .map(Value::from)
            .ok_or_else(|| wrong(value, place)),
        Type::Quantity => super::meta::quantity(value),
        Type::IntOrString => match value {
            Value::String(_) => Ok(value.clone()),
            Value::Number(number) if number.is_i64() || number.is_u64() => Ok(value.clone()),
            Value::Number(_) => Err(wrong_form(&format!("number {value}"), place)),
            other => Err(wrong(other, place)),
        },
        Type::Raw | Type::FieldsV1 => Ok(value.clone()),
        Type::SchemaOrArray | Type::SchemaOrBool | Type::SchemaOrStrings => {
            read_schema(value, place, findings)
        }
        Type::List(inner) => {
            let Value::Array(items) = value else {
                return Err(wrong(value, place));
            };
            let mut read = Vec::with_capacity(items.len());
            for (position, item) in items.iter().enumerate() {
                read.push(read_value(
                    inner,
                    item,
                    &place.item(&format!("[{position}]")),
                    findings,
                )?);
            }
            Ok(Value::Array(read))
        }
        Type::Map(inner) => {
            let Value::Object(map) = value else {
                return Err(wrong(value, place));
            };
            let mut read = Map::new();
            for (key, item) in map {
                read.insert(
                    key.clone(),
                    read_value(inner, item, &place.item(&format!(".{key}")), findings)?,
                );
            }
            Ok(Value::Object(read))
        }
        Type::Struct(name) => match types::find(name) {
            Some(shape) => read_struct(shape, value, place, false, findings),
            None => Ok(value.clone()),
        },
    }
}

impl Place<'_> {
    /// The place of an item of this list or map.
    fn item(&self, position: &str) -> Self {
        let go_type = self.go_type;
        let inner = go_type
            .strip_prefix("[]")
            .or_else(|| go_type.strip_prefix("map[string]"))
            .unwrap_or(go_type);
        Self {
            owner: self.owner,
            go_path: self.go_path.clone(),
            path: format!("{}{position}", self.path),
            go_type: inner,
        }
    }
}

fn read_integer(value: &Value, least: i64, most: i64, place: &Place<'_>) -> Result<Value, String> {
    let Value::Number(number) = value else {
        return Err(wrong(value, place));
    };
    let whole = number.as_i64().or_else(|| {
        number
            .as_f64()
            .filter(|float| float.fract() == 0.0)
            .and_then(exact)
    });
    match whole {
        Some(whole) if (least..=most).contains(&whole) => Ok(Value::from(whole)),
        _ => Err(wrong_form(&format!("number {value}"), place)),
    }
}

/// The integer that this float stands for, when it is one that a float holds exactly.
fn exact(float: f64) -> Option<i64> {
    (float.abs() < 9_007_199_254_740_992.0)
        .then(|| format!("{float:.0}").parse().ok())
        .flatten()
}

fn read_bytes(value: &Value, place: &Place<'_>) -> Result<Value, String> {
    use base64::Engine as _;
    let text = value.as_str().ok_or_else(|| wrong(value, place))?;
    let text: String = text
        .chars()
        .filter(|letter| !matches!(letter, '\n' | '\r'))
        .collect();
    let standard = |letter: u8| letter.is_ascii_alphanumeric() || matches!(letter, b'+' | b'/');
    if base64::engine::general_purpose::STANDARD
        .decode(&text)
        .is_ok()
    {
        return Ok(Value::String(text));
    }
    let at = text
        .bytes()
        .position(|letter| !standard(letter))
        .unwrap_or(text.len());
    Err(format!("illegal base64 data at input byte {at}"))
}

fn read_time(kind: &Type, value: &Value, place: &Place<'_>) -> Result<Value, String> {
    let text = value.as_str().ok_or_else(|| wrong(value, place))?;
    let layout = if *kind == Type::Time {
        "2006-01-02T15:04:05Z07:00"
    } else {
        "2006-01-02T15:04:05.000000Z07:00"
    };
    let moment: jiff::Timestamp = text.parse().map_err(|_| {
        format!("parsing time {text:?} as {layout:?}: cannot parse {text:?} as \"2006\"")
    })?;
    let written = if *kind == Type::Time {
        moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    } else {
        moment.strftime("%Y-%m-%dT%H:%M:%S.%6fZ")
    };
    Ok(Value::String(written.to_string()))
}

const JSON_SCHEMA: &str =
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

fn read_schema(value: &Value, place: &Place<'_>, findings: &mut Findings) -> Result<Value, String> {
    match (value, types::find(JSON_SCHEMA)) {
        (Value::Object(_), Some(shape)) => read_struct(shape, value, place, false, findings),
        (Value::Array(items), Some(shape)) if items.iter().all(Value::is_object) => {
            let read = items
                .iter()
                .map(|item| read_struct(shape, item, place, false, findings));
            Ok(Value::Array(read.collect::<Result<_, _>>()?))
        }
        _ => Ok(value.clone()),
    }
}
