//! Differences between two specs as the API server shows them: of the Go structs, as JSON, in unified form.

use serde_json::Value;

/// Lines shown around a change.
const CONTEXT: usize = 3;

/// The difference of two claims' specs.
pub(super) fn claim_difference(old: &Value, new: &Value) -> String {
    unified(&claim_lines(old), &claim_lines(new))
}

/// A claim's spec as the internal Go struct is written, one space of indent a level.
fn claim_lines(spec: &Value) -> Vec<String> {
    let at = |pointer: &str| spec.pointer(pointer).cloned().unwrap_or(Value::Null);
    let pairs = [
        ("AccessModes", at("/accessModes")),
        ("Selector", at("/selector")),
        ("Resources", Value::Null),
        (
            "VolumeName",
            Value::String(at("/volumeName").as_str().unwrap_or_default().to_owned()),
        ),
        ("StorageClassName", at("/storageClassName")),
        ("VolumeMode", at("/volumeMode")),
        ("DataSource", source(&at("/dataSource"), false)),
        ("DataSourceRef", source(&at("/dataSourceRef"), true)),
        (
            "VolumeAttributesClassName",
            at("/volumeAttributesClassName"),
        ),
    ];
    let mut lines = vec!["{".to_owned()];
    let last = pairs.len();
    for (position, (key, value)) in pairs.into_iter().enumerate() {
        let comma = if position + 1 == last { "" } else { "," };
        if key == "Resources" {
            lines.push(" \"Resources\": {".to_owned());
            write(&mut lines, "Limits", &at("/resources/limits"), 2, ",");
            write(&mut lines, "Requests", &at("/resources/requests"), 2, "");
            lines.push(format!(" }}{comma}"));
        } else {
            write(&mut lines, key, &value, 1, comma);
        }
    }
    lines.push("}".to_owned());
    lines
}

/// A data source with its Go names, in the struct's order.
fn source(value: &Value, with_namespace: bool) -> Value {
    let Some(map) = value.as_object() else {
        return Value::Null;
    };
    let text = |key: &str| map.get(key).cloned().unwrap_or(Value::Null);
    let mut pairs = serde_json::Map::new();
    pairs.insert("APIGroup".to_owned(), text("apiGroup"));
    pairs.insert("Kind".to_owned(), text("kind"));
    pairs.insert("Name".to_owned(), text("name"));
    if with_namespace {
        pairs.insert("Namespace".to_owned(), text("namespace"));
    }
    Value::Object(pairs)
}

fn write(lines: &mut Vec<String>, key: &str, value: &Value, depth: usize, comma: &str) {
    let indent = " ".repeat(depth);
    let (open, close, items): (&str, &str, Vec<(Option<&String>, &Value)>) = match value {
        Value::Object(map) if !map.is_empty() => (
            "{",
            "}",
            map.iter().map(|(key, item)| (Some(key), item)).collect(),
        ),
        Value::Array(list) if !list.is_empty() => {
            ("[", "]", list.iter().map(|item| (None, item)).collect())
        }
        other => {
            lines.push(format!("{indent}\"{key}\": {other}{comma}"));
            return;
        }
    };
    lines.push(format!("{indent}\"{key}\": {open}"));
    let last = items.len();
    for (position, (name, item)) in items.into_iter().enumerate() {
        let comma = if position + 1 == last { "" } else { "," };
        match name {
            Some(name) => write(lines, name, item, depth + 1, comma),
            None => lines.push(format!("{indent} {item}{comma}")),
        }
    }
    lines.push(format!("{indent}{close}{comma}"));
}

/// A unified difference without file names. The changed region is taken as one: specs differ in few places.
fn unified(old: &[String], new: &[String]) -> String {
    let before = old
        .iter()
        .zip(new)
        .take_while(|(left, right)| left == right)
        .count();
    let (old_rest, new_rest) = (
        old.get(before..).unwrap_or_default(),
        new.get(before..).unwrap_or_default(),
    );
    let after = old_rest
        .iter()
        .rev()
        .zip(new_rest.iter().rev())
        .take_while(|(left, right)| left == right)
        .count();
    let from = before.saturating_sub(CONTEXT);
    let tail = after.min(CONTEXT);
    let (old_end, new_end) = (old.len() - after, new.len() - after);
    let (old_count, new_count) = (old_end + tail - from, new_end + tail - from);
    let mut out = format!(
        "@@ -{},{old_count} +{},{new_count} @@\n",
        from + 1,
        from + 1
    );
    let mut add = |mark: char, lines: Option<&[String]>| {
        for line in lines.unwrap_or_default() {
            out.push(mark);
            out.push_str(line);
            out.push('\n');
        }
    };
    add(' ', old.get(from..before));
    add('-', old.get(before..old_end));
    add('+', new.get(before..new_end));
    add(' ', old.get(old_end..old_end + tail));
    out
}
