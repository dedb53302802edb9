//! The table as it is written: stories of requests in `rows/`, the answers of a real cluster in `recorded/`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

/// Requests that follow each other.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Story {
    /// Words (namespaces, groups) that are others in every run.
    #[serde(default)]
    pub(crate) names: Vec<String>,
    /// What is deleted afterwards.
    #[serde(default)]
    pub(crate) clean_up: Vec<String>,
    /// The cluster has forgotten its first revisions.
    #[serde(default)]
    pub(crate) aged: bool,
    pub(crate) rows: Vec<Row>,
}

/// One request. With a name its answer is compared with the recorded one; without, it prepares the next.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a word that a row may have"
)]
pub(crate) struct Row {
    pub(crate) name: Option<String>,
    /// Method and path.
    pub(crate) ask: String,
    /// The content type of the body, JSON when absent.
    #[serde(rename = "type")]
    pub(crate) content_type: Option<String>,
    pub(crate) accept: Option<String>,
    /// An object, or a text that is sent as it stands.
    pub(crate) body: Option<Value>,
    /// The answer comes about by itself: the request is repeated until it is the expected one.
    #[serde(default)]
    pub(crate) until: bool,
    /// The same for a row without a name: until the object has something here.
    pub(crate) has: Option<String>,
    /// The request is a watch, and ends after so many events.
    pub(crate) events: Option<usize>,
    /// The watch asks for a version that a real cluster may have forgotten: being told so is as good.
    #[serde(default)]
    pub(crate) may_expire: bool,
    /// What is done while the watch is open.
    #[serde(default)]
    pub(crate) during: Vec<Self>,
    /// Parts of the answer that later rows use as `{name}`.
    #[serde(default)]
    pub(crate) keep: BTreeMap<String, String>,
    /// Statuses that a row without a name may get beside success.
    #[serde(default)]
    pub(crate) may: Vec<u16>,
    /// Asked without credentials.
    #[serde(default)]
    pub(crate) anonymous: bool,
    /// Only this part of the answer was recorded.
    pub(crate) part: Option<String>,
    /// Only the status and the content type are compared.
    #[serde(default)]
    pub(crate) form: bool,
    /// Only the groups, resources or documents that the recording shows are compared.
    #[serde(default)]
    pub(crate) shortened: bool,
}

impl Row {
    pub(crate) fn method(&self) -> &str {
        self.ask.split_once(' ').unwrap().0
    }

    pub(crate) fn path(&self) -> &str {
        self.ask.split_once(' ').unwrap().1
    }

    /// The body as it is sent.
    pub(crate) fn text(&self) -> Option<String> {
        match self.body.as_ref()? {
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }
}

impl Story {
    pub(crate) fn read(name: &str) -> Self {
        let path = folder("rows").join(format!("{name}.yaml"));
        let text = fs::read_to_string(&path).unwrap();
        serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}

/// `rows` or `recorded`.
pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The recorded lines of a story: the answer is `response`.
pub(crate) fn recorded(story: &str) -> BTreeMap<String, Value> {
    let path = folder("recorded").join(format!("{story}.jsonl"));
    let text = fs::read_to_string(&path).unwrap_or_default();
    let lines = text.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        (line["name"].as_str().unwrap().to_owned(), line)
    });
    lines.collect()
}

/// Writes the recorded lines of a story anew, in the order given.
pub(crate) fn record(story: &str, lines: &[Value]) {
    let path = folder("recorded").join(format!("{story}.jsonl"));
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    fs::write(path, format!("{}\n", lines.join("\n"))).unwrap();
}

/// A behaviour that the embedded cluster does not have, on purpose.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LeftOut {
    pub(crate) story: String,
    /// Rows of the story.
    pub(crate) rows: Vec<String>,
    pub(crate) reason: String,
}

/// The whole list.
pub(crate) fn left_out() -> Vec<LeftOut> {
    let text = fs::read_to_string(folder("left-out.yaml")).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}
