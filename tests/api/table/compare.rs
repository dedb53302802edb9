//! Comparing answers with what must not matter left out.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value};

/// Values of the recording (uids, versions, generated names, tokens) and what they are here.
pub(crate) struct Names(BTreeMap<String, String>);

/// Fields whose values are each server's own.
const OWN: &[&str] = &[
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "time",
    "lastProbeTime",
    "lastTransitionTime",
    "startTime",
    "continue",
    "clusterIP",
    "serverAddress",
    "gitVersion",
    "gitCommit",
    "buildDate",
    "goVersion",
    "compiler",
    "platform",
    "ca.crt",
];

/// Resources and subresources of a real server that nothing runs here; discovery does not list them.
const NOT_SERVED: &[&str] = &[
    "cronjobs",
    "cronjobs/status",
    "attach",
    "binding",
    "ephemeralcontainers",
    "eviction",
    "exec",
    "portforward",
    "proxy",
    "resize",
];

/// Times inside of messages.
static TIMES: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ").unwrap());

/// What a server still remembers.
static OLDEST: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(too old resource version: \d+) \(\d+\)").unwrap());

impl Names {
    /// With these words known beforehand.
    pub(crate) fn new(words: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(words.into_iter().collect())
    }

    /// Learns the names by walking both answers.
    pub(crate) fn learn(&mut self, recorded: &Value, here: &Value) {
        match (recorded, here) {
            (Value::Object(left), Value::Object(right)) => {
                for (key, value) in left {
                    let Some(other) = right.get(key) else {
                        continue;
                    };
                    let generated = key == "name" && left.contains_key("generateName");
                    if let (Value::String(left), Value::String(right)) = (value, other)
                        && (matches!(key.as_str(), "uid" | "resourceVersion" | "continue")
                            || generated)
                    {
                        self.0.insert(left.clone(), right.clone());
                    }
                    self.learn(value, other);
                }
            }
            (Value::Array(left), Value::Array(right)) => {
                left.iter()
                    .zip(right)
                    .for_each(|(left, right)| self.learn(left, right));
            }
            _ => {}
        }
    }

    /// A text of the recording with the names of here.
    pub(crate) fn translate(&self, text: &str) -> String {
        let mut out = String::new();
        let mut word = String::new();
        let part = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
        for letter in text.chars().chain(['\n']) {
            if part(letter) {
                word.push(letter);
                continue;
            }
            out.push_str(self.0.get(&word).unwrap_or(&word));
            word.clear();
            out.push(letter);
        }
        out.pop();
        out
    }

    fn translated(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.translate(text)),
            Value::Array(items) => {
                Value::Array(items.iter().map(|item| self.translated(item)).collect())
            }
            Value::Object(map) => Value::Object(
                map.iter()
                    .map(|(key, value)| (self.translate(key), self.translated(value)))
                    .collect(),
            ),
            other => other.clone(),
        }
    }

    /// What differs between the recorded value and the one of here.
    pub(crate) fn difference(&self, recorded: &Value, here: &Value) -> Option<String> {
        let (left, right) = (plain(&self.translated(recorded), ""), plain(here, ""));
        let mut found = Vec::new();
        differences(&left, &right, "", &mut found);
        (!found.is_empty()).then(|| found.join("\n"))
    }
}

/// A value without what is each server's own, and with lists sorted whose order means nothing.
fn plain(value: &Value, key: &str) -> Value {
    match value {
        Value::Object(map) => Value::Object(plain_map(map)),
        Value::Array(items) => {
            let mut items: Vec<Value> = items
                .iter()
                .filter(|item| is_served(item))
                .map(|item| plain(item, key))
                .collect();
            if matches!(
                key,
                "causes" | "verbs" | "resources" | "subresources" | "managedFields"
            ) {
                items.sort_by_key(ToString::to_string);
            }
            Value::Array(items)
        }
        Value::String(_) if OWN.contains(&key) => Value::String("(own)".to_owned()),
        Value::String(text) if key == "clusterIPs" => {
            Value::String(if text.is_empty() { "" } else { "(own)" }.to_owned())
        }
        Value::String(text) if key == "cells" && is_age(text) => Value::String("(age)".to_owned()),
        Value::String(text) if key == "message" => Value::String(sorted_message(text)),
        other => other.clone(),
    }
}

fn plain_map(map: &Map<String, Value>) -> Map<String, Value> {
    let kept = map
        .iter()
        .filter(|(key, _)| key.as_str() != "storageVersionHash" && key.as_str() != "time");
    kept.map(|(key, value)| (key.clone(), plain(value, key)))
        .collect()
}

fn is_served(item: &Value) -> bool {
    let name = item
        .get("name")
        .or_else(|| item.get("subresource"))
        .or_else(|| item.get("resource"));
    !name
        .and_then(Value::as_str)
        .is_some_and(|name| NOT_SERVED.contains(&name))
}

fn is_age(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(|first| first.is_ascii_digit())
        && letters.all(|letter| letter.is_ascii_digit() || "smhdy".contains(letter))
        && text.ends_with(['s', 'm', 'h', 'd', 'y'])
}

/// `X is invalid: [b: …, a: …]` and `strict decoding error: b, a` with their parts in order: of no matter.
fn sorted_message(text: &str) -> String {
    let text = &TIMES.replace_all(text, "(time)");
    let text = &OLDEST.replace_all(text, "$1 (own)");
    if let Some((start, list)) = text.split_once("strict decoding error: ") {
        let mut parts: Vec<&str> = list.split(", ").collect();
        parts.sort_unstable();
        return format!("{start}strict decoding error: {}", parts.join(", "));
    }
    let Some((start, list)) = text.split_once(" is invalid: [") else {
        // `Too large resource version: 9, current: 7`
        return match text.split_once(", current: ") {
            Some((start, _)) => format!("{start}, current: (own)"),
            None => text.to_string(),
        };
    };
    let mut parts: Vec<&str> = list.trim_end_matches(']').split(", ").collect();
    parts.sort_unstable();
    format!("{start} is invalid: [{}]", parts.join(", "))
}

/// A recorded text that was too long ends with `… 494 more`; its beginning is compared.
fn is_start(recorded: &str, here: &str) -> bool {
    recorded.ends_with(" more")
        && recorded
            .rsplit_once('\u{2026}')
            .is_some_and(|(start, _)| here.starts_with(start))
}

fn differences(left: &Value, right: &Value, path: &str, found: &mut Vec<String>) {
    match (left, right) {
        (Value::Object(one), Value::Object(other)) => {
            for (key, value) in one {
                match other.get(key) {
                    Some(right) => differences(value, right, &format!("{path}/{key}"), found),
                    None => {
                        found.push(format!("  {path}/{key}: absent, a real server has {value}"));
                    }
                }
            }
            for (key, value) in other.iter().filter(|(key, _)| !one.contains_key(*key)) {
                found.push(format!("  {path}/{key}: {value}, a real server has none"));
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (position, (left, right)) in one.iter().zip(other).enumerate() {
                differences(left, right, &format!("{path}/{position}"), found);
            }
        }
        _ if left == right => {}
        (Value::String(one), Value::String(other)) if is_start(one, other) => {}
        _ => found.push(format!(
            "  {path}: {right}\n  {}  a real server: {left}",
            " ".repeat(path.len())
        )),
    }
}
