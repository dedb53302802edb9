//! The recorded requests and answers.

use serde_json::Value;

const LINES: &str = include_str!("../../../../tests/api/recorded/behaviours.jsonl");

/// One request with its answer.
#[derive(Clone)]
pub(crate) struct Recorded {
    pub(crate) name: String,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) content_type: Option<String>,
    pub(crate) accept: Option<String>,
    pub(crate) body: Option<String>,
    pub(crate) response: Value,
}

impl Recorded {
    /// All of them, in the order of their recording.
    pub(crate) fn all() -> Vec<Self> {
        LINES
            .lines()
            .map(|line| Self::of(&serde_json::from_str(line).unwrap()))
            .collect()
    }

    fn of(line: &Value) -> Self {
        let request = &line["request"];
        let text = |key: &str| request[key].as_str().map(str::to_owned);
        let body = match &request["body"] {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        };
        Self {
            name: line["name"].as_str().unwrap().to_owned(),
            method: text("method").unwrap(),
            path: text("path").unwrap(),
            content_type: text("contentType"),
            accept: text("accept"),
            body,
            response: line["response"].clone(),
        }
    }

    pub(crate) fn status(&self) -> u64 {
        self.response["status"].as_u64().unwrap()
    }

    /// The events of a watch.
    pub(crate) fn events(&self) -> Option<&Vec<Value>> {
        self.response["events"].as_array()
    }
}
