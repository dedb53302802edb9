//! Wire formats: JSON, YAML 1.1 and the protobuf envelope of Kubernetes.

mod json;
mod protobuf;
mod yaml;

use serde_json::Value;

use crate::kinds::DecodeError;

/// One body as JSON.
#[derive(Debug)]
pub(crate) struct Body {
    pub value: Value,
    /// Paths of keys that occurred twice; the later value was kept.
    pub duplicates: Vec<String>,
}

/// The formats that bodies come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Yaml,
    Protobuf,
}

impl Format {
    /// The format that a `Content-Type` names; parameters are ignored, an absent one means JSON.
    pub(crate) fn of(content_type: &str) -> Option<Self> {
        match content_type.split(';').next().unwrap_or_default().trim() {
            ""
            | "application/json"
            | "*/*"
            | "application/merge-patch+json"
            | "application/json-patch+json"
            | "application/strategic-merge-patch+json" => Some(Self::Json),
            "application/yaml"
            | "application/apply-patch+yaml"
            | "text/yaml"
            | "application/x-yaml" => Some(Self::Yaml),
            "application/vnd.kubernetes.protobuf" => Some(Self::Protobuf),
            _ => None,
        }
    }
}

/// Reads a body that should hold an object of `kind`; the errors are those of a real API server.
pub(crate) fn read(content_type: &str, bytes: &[u8], kind: &str) -> Result<Body, DecodeError> {
    let unreadable = |cause: String| {
        let shown = if bytes.is_empty() {
            "<empty>".to_owned()
        } else {
            String::from_utf8_lossy(bytes).into_owned()
        };
        DecodeError::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: {cause} ({shown})"
        ))
    };
    match Format::of(content_type) {
        // Everything that is JSON is read by JSON's own rules, even when it is sent as YAML.
        Some(Format::Json) => json::parse(bytes).map_err(unreadable),
        Some(Format::Yaml) => {
            if bytes.first() == Some(&b'{') && let Ok(body) = json::parse(bytes) {
                return Ok(body);
            }
            yaml::parse(bytes).map_err(unreadable)
        }
        Some(Format::Protobuf) => protobuf::parse(bytes).map_err(DecodeError::bad_request),
        None => Err(DecodeError {
            code: 415,
            reason: "UnsupportedMediaType",
            message: "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf".to_owned(),
        }),
    }
}

/// An object as YAML, keys sorted, as the API server writes it.
pub(crate) fn to_yaml(value: &Value) -> String {
    yaml::write(value)
}
