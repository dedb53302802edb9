//! YAML as Kubernetes reads it: version 1.1, so that a plain `y` or `no` is a boolean.

use std::cell::RefCell;

use serde::de::DeserializeSeed as _;
use serde_json::Value;

use super::Body;
use super::json::Seed;

/// Reads one YAML document.
pub(super) fn parse(bytes: &[u8]) -> Result<Body, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "yaml: invalid UTF-8".to_owned())?;
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::PassThrough,
        legacy_octal_numbers: true,
        with_snippet: false,
    };
    let duplicates = RefCell::new(Vec::new());
    let value = serde_saphyr::with_deserializer_from_str_with_options(text, options, |reader| {
        Seed {
            path: String::new(),
            duplicates: &duplicates,
        }
        .deserialize(reader)
    })
    .map_err(|error| format!("yaml: {error}"))?;
    Ok(Body {
        value,
        duplicates: duplicates.into_inner(),
    })
}

/// Writes YAML as the API server does: keys sorted, lists not indented.
pub(super) fn write(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => block(value, 0, &mut out),
        Value::Array(items) if !items.is_empty() => block(value, 0, &mut out),
        other => {
            out.push_str(&scalar(other));
            out.push('\n');
        }
    }
    out
}

fn block(value: &Value, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) => {
            for (key, item) in map {
                out.extend([&indent, &text(key), ":"]);
                entry(item, depth, out);
            }
        }
        Value::Array(items) => {
            for item in items {
                out.extend([indent.as_str(), "-"]);
                match item {
                    Value::Object(map) if !map.is_empty() => {
                        let mut inner = String::new();
                        block(item, depth + 1, &mut inner);
                        out.push(' ');
                        out.push_str(inner.trim_start());
                    }
                    other => entry(other, depth + 1, out),
                }
            }
        }
        _ => {}
    }
}

fn entry(item: &Value, depth: usize, out: &mut String) {
    match item {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            block(item, depth + 1, out);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            block(item, depth, out);
        }
        Value::String(lines) if lines.contains('\n') && !lines.starts_with([' ', '\n']) => {
            let indent = "  ".repeat(depth + 1);
            let chomp = if lines.ends_with("\n\n") {
                "|+"
            } else if lines.ends_with('\n') {
                "|"
            } else {
                "|-"
            };
            out.extend([" ", chomp, "\n"]);
            for line in lines.strip_suffix('\n').unwrap_or(lines).split('\n') {
                let indent = if line.is_empty() { "" } else { &indent };
                out.extend([indent, line, "\n"]);
            }
        }
        other => out.extend([" ", &scalar(other), "\n"]),
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(string) => text(string),
        other => other.to_string(),
    }
}

/// A string plain where every reader of YAML 1.1 takes it as a string, else quoted.
fn text(string: &str) -> String {
    let word = |letter: char| {
        letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-' | '/' | '(' | ')')
    };
    let keyword = [
        "y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf",
    ];
    let number_like = string.starts_with(|first: char| {
        first.is_ascii_digit() || matches!(first, '-' | '.' | '+' | '(')
    });
    let inner = |letter: char| {
        word(letter) || matches!(letter, ' ' | '"' | ',' | '=' | '\'' | '[' | ']' | '{' | '}')
    };
    let plain = string.starts_with(word)
        && string.ends_with(|last: char| last != ' ' && inner(last))
        && string.chars().all(inner)
        && !number_like
        && !keyword.contains(&string.to_lowercase().as_str());
    if plain {
        string.to_owned()
    } else {
        serde_json::to_string(string).unwrap_or_default()
    }
}
