//! Tables: what `kubectl get` prints.

mod age;
mod columns;
mod json_path;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

pub(crate) use self::columns::{built_in, custom};
use crate::kinds::Resource;

/// How one cell is made of an object.
#[derive(Clone)]
pub(crate) enum Cell {
    /// Computed from the whole object at a moment.
    Computed(fn(&Value, Timestamp) -> Value),
    /// What a custom column's `JSONPath` finds, shown as its type says.
    Path(json_path::JsonPath, String),
}

/// One column of a table.
#[derive(Clone)]
pub(crate) struct Column {
    pub name: String,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub kind: String,
    /// `name` for the first column.
    pub format: String,
    pub description: String,
    /// Columns above 0 are shown by `-o wide` only.
    pub priority: i64,
    pub cell: Cell,
}

/// What goes along with each row (`includeObject`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Include {
    None,
    Metadata,
    Object,
}

impl Include {
    /// Reads the query's value; `None` when it is not one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "Metadata" => Some(Self::Metadata),
            "None" => Some(Self::None),
            "Object" => Some(Self::Object),
            _ => None,
        }
    }
}

/// A table of these objects. `metadata` is the list's (or, for one object, only its resourceVersion); `headed` is false
/// for the later events of a watch, which repeat no column definitions.
pub(crate) fn table(
    resource: &dyn Resource,
    objects: &[Value],
    metadata: &Value,
    (include, headed): (Include, bool),
    now: Timestamp,
) -> Value {
    let columns = resource.columns();
    let definitions: Vec<Value> = columns
        .iter()
        .map(|column| {
            json!({
                "name": column.name,
                "type": column.kind,
                "format": column.format,
                "description": column.description,
                "priority": column.priority,
            })
        })
        .collect();
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| row(resource, &columns, object, include, now))
        .collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": if headed { Value::Array(definitions) } else { Value::Null },
        "rows": rows,
    })
}

fn row(
    resource: &dyn Resource,
    columns: &[Column],
    object: &Value,
    include: Include,
    now: Timestamp,
) -> Value {
    let cells: Vec<Value> = columns
        .iter()
        .map(|column| column.value(object, now))
        .collect();
    let mut row = Map::new();
    row.insert("cells".to_owned(), Value::Array(cells));
    match include {
        Include::None => {
            row.insert("object".to_owned(), Value::Null);
        }
        Include::Metadata => {
            let metadata = object.get("metadata").cloned().unwrap_or_else(|| json!({}));
            let partial = json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata });
            row.insert("object".to_owned(), partial);
        }
        Include::Object => {
            let mut whole = object.clone();
            if let Some(map) = whole.as_object_mut() {
                let group = resource.group();
                let api_version = if group.is_empty() {
                    resource.version().to_owned()
                } else {
                    format!("{group}/{}", resource.version())
                };
                map.insert("apiVersion".to_owned(), Value::String(api_version));
                map.insert("kind".to_owned(), Value::String(resource.kind().to_owned()));
            }
            row.insert("object".to_owned(), whole);
        }
    }
    Value::Object(row)
}

impl Column {
    fn value(&self, object: &Value, now: Timestamp) -> Value {
        match &self.cell {
            Cell::Computed(compute) => compute(object, now),
            Cell::Path(path, kind) => columns::shown(path.find(object), kind, now),
        }
    }
}
