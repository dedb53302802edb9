//! The `JSONPath` of printer columns: `.a.b`, `['a']`, `[0]`, `[*]`, `[?(@.type=="Ready")]`.

use serde_json::Value;

/// A parsed path.
#[derive(Clone, Debug)]
pub(crate) struct JsonPath(Vec<Step>);

#[derive(Clone, Debug)]
enum Step {
    Field(String),
    Index(i64),
    All,
    /// Items whose field at this path equals this text.
    Where(Vec<Self>, String),
}

impl JsonPath {
    /// Reads a path; what is not understood ends it with a step that finds nothing.
    pub(crate) fn parse(text: &str) -> Self {
        Self(steps(
            text.trim().trim_start_matches('{').trim_end_matches('}'),
        ))
    }

    /// The first value found.
    pub(crate) fn find<'a>(&self, object: &'a Value) -> Option<&'a Value> {
        follow(&self.0, object).into_iter().next()
    }
}

fn steps(text: &str) -> Vec<Step> {
    let mut found = Vec::new();
    let mut rest = text.strip_prefix('$').unwrap_or(text);
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let (step, after) = bracket(inner);
            found.push(step);
            rest = after;
            continue;
        }
        rest = rest.strip_prefix('.').unwrap_or(rest);
        // A dot that is part of a name is written `\.`.
        let mut name = String::new();
        let mut letters = rest.char_indices();
        let mut end = rest.len();
        while let Some((position, letter)) = letters.next() {
            match letter {
                '\\' => name.extend(letters.next().map(|(_, letter)| letter)),
                '.' | '[' => {
                    end = position;
                    break;
                }
                other => name.push(other),
            }
        }
        rest = rest.get(end..).unwrap_or_default();
        if name == "*" {
            found.push(Step::All);
        } else if !name.is_empty() {
            found.push(Step::Field(name));
        } else if !rest.starts_with('[') {
            break;
        }
    }
    found
}

fn bracket(inner: &str) -> (Step, &str) {
    if let Some(filter) = inner.strip_prefix("?(") {
        let (condition, after) = filter.split_once(")]").unwrap_or((filter, ""));
        let (path, wanted) = condition.split_once("==").unwrap_or((condition, ""));
        let wanted = wanted.trim().trim_matches(['"', '\'']).to_owned();
        return (
            Step::Where(steps(path.trim().trim_start_matches('@')), wanted),
            after,
        );
    }
    let (index, after) = inner.split_once(']').unwrap_or((inner, ""));
    let index = index.trim();
    let step = match index.parse() {
        Ok(number) => Step::Index(number),
        Err(_) if index == "*" => Step::All,
        Err(_) => Step::Field(index.trim_matches(['"', '\'']).to_owned()),
    };
    (step, after)
}

fn follow<'a>(steps: &[Step], value: &'a Value) -> Vec<&'a Value> {
    let Some((step, rest)) = steps.split_first() else {
        return vec![value];
    };
    let next: Vec<&Value> = match (step, value) {
        (Step::Field(name), Value::Object(map)) => map.get(name).into_iter().collect(),
        (Step::Index(number), Value::Array(items)) => {
            let position = usize::try_from(*number)
                .ok()
                .or_else(|| items.len().checked_sub(usize::try_from(-number).ok()?));
            position
                .and_then(|position| items.get(position))
                .into_iter()
                .collect()
        }
        (Step::All, Value::Array(items)) => items.iter().collect(),
        (Step::All, Value::Object(map)) => map.values().collect(),
        (Step::Where(path, wanted), Value::Array(items)) => items
            .iter()
            .filter(|item| matches(path, item, wanted))
            .collect(),
        _ => Vec::new(),
    };
    next.into_iter()
        .flat_map(|value| follow(rest, value))
        .collect()
}

fn matches(path: &[Step], item: &Value, wanted: &str) -> bool {
    follow(path, item).first().is_some_and(|found| match found {
        Value::String(text) => text == wanted,
        other => *wanted == other.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::JsonPath;

    #[test]
    fn paths_of_printer_columns_find_their_values() {
        let object =
            json!({"a": {"b": [{"type": "X", "s": "1"}, {"type": "Y", "s": "2"}], "c.d": 3}});
        for (path, found) in [
            (".a.b[1].s", json!("2")),
            (".a.b[?(@.type==\"Y\")].s", json!("2")),
            (".a.b[?(@.type=='X')].s", json!("1")),
            (".a['c.d']", json!(3)),
            (".a.c\\.d", json!(3)),
            (".a.b[*].s", json!("1")),
            (".a.b[-1].s", json!("2")),
        ] {
            assert_eq!(JsonPath::parse(path).find(&object), Some(&found), "{path}");
        }
        assert_eq!(JsonPath::parse(".a.z").find(&object), None);
    }
}
