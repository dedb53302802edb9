//! Kubernetes' protobuf: `k8s\0`, an envelope with apiVersion and kind, and the object by the table of types.

use base64::Engine as _;
use prost::encoding::{WireType, decode_key, decode_varint};
use serde_json::{Map, Value, json};

use super::Body;
use crate::kinds::types::{self, Struct, Type};

const MAGIC: &[u8] = b"k8s\0";
const TRUNCATED: &str = "the protobuf body ends in the middle of a field";

/// Reads an envelope and the object in it.
pub(super) fn parse(bytes: &[u8]) -> Result<Body, String> {
    let Some(envelope) = bytes.strip_prefix(MAGIC) else {
        return Err("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]".to_owned());
    };
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), Vec::new());
    for (number, field) in fields(envelope)? {
        match (number, field) {
            (1, Wire::Bytes(meta)) => {
                for (number, field) in fields(meta)? {
                    match (number, field) {
                        (1, Wire::Bytes(text)) => api_version = utf8(text)?,
                        (2, Wire::Bytes(text)) => kind = utf8(text)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(inner)) => raw = inner.to_vec(),
            _ => {}
        }
    }
    let name = message_name(&api_version, &kind).ok_or_else(|| {
        format!("no kind {kind:?} is registered for version {api_version:?} in protobuf form")
    })?;
    let mut value = struct_from_bytes(&name, &raw)?;
    if let Some(object) = value.as_object_mut() {
        object.insert("apiVersion".to_owned(), Value::String(api_version));
        object.insert("kind".to_owned(), Value::String(kind));
    }
    Ok(Body {
        value,
        duplicates: Vec::new(),
    })
}

/// The struct that this kind is made of.
fn message_name(api_version: &str, kind: &str) -> Option<String> {
    if kind == "DeleteOptions" {
        return Some("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions".to_owned());
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
    let name = match group {
        "apiextensions.k8s.io" => {
            format!("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.{version}.{kind}")
        }
        group => format!("io.k8s.api.{}.{version}.{kind}", group.split('.').next()?),
    };
    types::find(&name).map(|_| name)
}

/// Reads the message of the struct `name` into the JSON form of it.
pub(crate) fn struct_from_bytes(name: &str, bytes: &[u8]) -> Result<Value, String> {
    let mut into = Map::new();
    if let Some(shape) = types::find(name) {
        read_message(shape, bytes, &mut into)?;
    }
    Ok(Value::Object(into))
}

enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn fields(mut bytes: &[u8]) -> Result<Vec<(u32, Wire<'_>)>, String> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (number, wire) = decode_key(&mut bytes).map_err(|error| error.to_string())?;
        let field = match wire {
            WireType::Varint => {
                Wire::Number(decode_varint(&mut bytes).map_err(|error| error.to_string())?)
            }
            WireType::LengthDelimited => {
                let length = decode_varint(&mut bytes).map_err(|error| error.to_string())?;
                let (taken, rest) = usize::try_from(length)
                    .ok()
                    .and_then(|length| bytes.split_at_checked(length))
                    .ok_or(TRUNCATED)?;
                bytes = rest;
                Wire::Bytes(taken)
            }
            WireType::SixtyFourBit => {
                let (taken, rest) = bytes.split_first_chunk::<8>().ok_or(TRUNCATED)?;
                bytes = rest;
                Wire::Number(u64::from_le_bytes(*taken))
            }
            WireType::ThirtyTwoBit => {
                let (taken, rest) = bytes.split_first_chunk::<4>().ok_or(TRUNCATED)?;
                bytes = rest;
                Wire::Number(u64::from(u32::from_le_bytes(*taken)))
            }
            WireType::StartGroup | WireType::EndGroup => {
                return Err("protobuf groups are not read".to_owned());
            }
        };
        found.push((number, field));
    }
    Ok(found)
}

fn utf8(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec())
        .map_err(|_| "a string of the protobuf body is not UTF-8".to_owned())
}

fn read_message(shape: &Struct, bytes: &[u8], into: &mut Map<String, Value>) -> Result<(), String> {
    for (number, wire) in fields(bytes)? {
        let Some(field) = shape.fields.iter().find(|field| field.number == number) else {
            continue;
        };
        match (&field.kind, &wire) {
            (Type::Struct(inner), Wire::Bytes(bytes)) if field.inline => {
                if let Some(inner) = types::find(inner) {
                    read_message(inner, bytes, into)?;
                }
            }
            (Type::List(inner), _) => {
                let item = read_wire(inner, &wire)?;
                if let Value::Array(items) =
                    into.entry(field.name.clone()).or_insert_with(|| json!([]))
                {
                    items.push(item);
                }
            }
            (Type::Map(inner), Wire::Bytes(bytes)) => {
                let (key, value) = read_entry(inner, bytes)?;
                if let Value::Object(map) =
                    into.entry(field.name.clone()).or_insert_with(|| json!({}))
                {
                    map.insert(key, value);
                }
            }
            (kind, _) => {
                let value = read_wire(kind, &wire)?;
                into.insert(field.name.clone(), value);
            }
        }
    }
    Ok(())
}

fn read_entry(inner: &Type, bytes: &[u8]) -> Result<(String, Value), String> {
    let (mut key, mut value) = (String::new(), Value::Null);
    for (number, wire) in fields(bytes)? {
        match (number, wire) {
            (1, Wire::Bytes(text)) => key = utf8(text)?,
            (2, wire) => value = read_wire(inner, &wire)?,
            _ => {}
        }
    }
    if value.is_null() {
        value = match inner {
            Type::String | Type::Bytes => json!(""),
            Type::Struct(_) => json!({}),
            _ => Value::Null,
        };
    }
    Ok((key, value))
}

fn read_wire(kind: &Type, wire: &Wire<'_>) -> Result<Value, String> {
    Ok(match (kind, wire) {
        (Type::Bool, Wire::Number(number)) => Value::Bool(*number != 0),
        (Type::Float, Wire::Number(bits)) => json!(f64::from_bits(*bits)),
        (_, Wire::Number(number)) => json!(number.cast_signed()),
        (Type::String, Wire::Bytes(bytes)) => Value::String(utf8(bytes)?),
        (Type::Bytes, Wire::Bytes(bytes)) => {
            Value::String(base64::engine::general_purpose::STANDARD.encode(bytes))
        }
        (Type::Time | Type::MicroTime, Wire::Bytes(bytes)) => read_time(kind, bytes)?,
        (Type::Quantity, Wire::Bytes(bytes)) => first_string(bytes, 1)?,
        (Type::IntOrString, Wire::Bytes(bytes)) => read_int_or_string(bytes)?,
        (Type::FieldsV1 | Type::Raw, Wire::Bytes(bytes)) => read_raw(bytes)?,
        (Type::Struct(name), Wire::Bytes(bytes)) => struct_from_bytes(name, bytes)?,
        (Type::List(inner), Wire::Bytes(bytes)) => {
            // A list inside a map or list is a message whose field 1 repeats.
            let items = fields(bytes)?
                .into_iter()
                .filter(|(number, _)| *number == 1);
            Value::Array(
                items
                    .map(|(_, wire)| read_wire(inner, &wire))
                    .collect::<Result<_, _>>()?,
            )
        }
        _ => Value::Null,
    })
}

fn first_string(bytes: &[u8], wanted: u32) -> Result<Value, String> {
    for (number, wire) in fields(bytes)? {
        if let (true, Wire::Bytes(text)) = (number == wanted, wire) {
            return Ok(Value::String(utf8(text)?));
        }
    }
    Ok(json!(""))
}

fn read_time(kind: &Type, bytes: &[u8]) -> Result<Value, String> {
    let (mut seconds, mut nanos) = (None, 0);
    for (number, wire) in fields(bytes)? {
        match (number, wire) {
            (1, Wire::Number(number)) => seconds = Some(number.cast_signed()),
            (2, Wire::Number(number)) => nanos = i32::try_from(number).unwrap_or_default(),
            _ => {}
        }
    }
    let Some(seconds) = seconds else {
        return Ok(Value::Null);
    };
    let nanos = if *kind == Type::Time { 0 } else { nanos };
    let moment = jiff::Timestamp::new(seconds, nanos).map_err(|error| error.to_string())?;
    let layout = if *kind == Type::Time {
        "%Y-%m-%dT%H:%M:%SZ"
    } else {
        "%Y-%m-%dT%H:%M:%S.%6fZ"
    };
    Ok(Value::String(moment.strftime(layout).to_string()))
}

fn read_int_or_string(bytes: &[u8]) -> Result<Value, String> {
    let (mut is_string, mut number, mut text) = (false, 0, String::new());
    for (field, wire) in fields(bytes)? {
        match (field, wire) {
            (1, Wire::Number(kind)) => is_string = kind == 1,
            (2, Wire::Number(value)) => number = value.cast_signed(),
            (3, Wire::Bytes(value)) => text = utf8(value)?,
            _ => {}
        }
    }
    Ok(if is_string {
        Value::String(text)
    } else {
        json!(number)
    })
}

fn read_raw(bytes: &[u8]) -> Result<Value, String> {
    for (number, wire) in fields(bytes)? {
        if let (1, Wire::Bytes(raw)) = (number, wire) {
            return serde_json::from_slice(raw).map_err(|error| error.to_string());
        }
    }
    Ok(Value::Null)
}
