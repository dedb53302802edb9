//! Tables as the server draws them (`meta.k8s.io/v1 Table`), laid out as kubectl lays them out.

use serde::Deserialize;
use serde_json::Value;

/// The `Accept` header that asks for a table.
pub(crate) const ACCEPT: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// A list of objects, or one, as rows.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Table {
    /// Absent in all events of a watch but the first.
    column_definitions: Option<Vec<Column>>,
    #[serde(default)]
    rows: Vec<Row>,
    #[serde(default)]
    metadata: Value,
}

#[derive(Clone, Debug, Deserialize)]
struct Column {
    name: String,
    #[serde(default)]
    priority: i32,
}

#[derive(Clone, Debug, Deserialize)]
struct Row {
    #[serde(default)]
    cells: Vec<Value>,
    #[serde(default)]
    object: Value,
}

/// How a table is shown.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Style {
    /// With the columns of lesser importance.
    pub(crate) wide: bool,
    /// With a column for the namespace.
    pub(crate) namespaces: bool,
}

impl Table {
    /// The table with the columns of an earlier one, unless it brings its own.
    #[must_use]
    pub(crate) fn following(mut self, earlier: &Self) -> Self {
        if self.columns().is_empty() {
            self.column_definitions
                .clone_from(&earlier.column_definitions);
        }
        self
    }

    fn columns(&self) -> &[Column] {
        self.column_definitions.as_deref().unwrap_or_default()
    }

    /// Whether there is nothing to show.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The version that a watch goes on from.
    pub(crate) fn resource_version(&self) -> &str {
        self.metadata
            .pointer("/resourceVersion")
            .and_then(Value::as_str)
            .unwrap_or("0")
    }

    /// Keeps the rows of this name only.
    pub(crate) fn keep(&mut self, name: &str) {
        self.rows.retain(|row| {
            row.object.pointer("/metadata/name").and_then(Value::as_str) == Some(name)
        });
    }

    /// The headings.
    pub(crate) fn heading(&self, style: Style) -> Vec<String> {
        let namespace = style.namespaces.then(|| "NAMESPACE".to_owned());
        let columns = self
            .columns()
            .iter()
            .filter(|column| style.wide || column.priority == 0);
        namespace
            .into_iter()
            .chain(columns.map(|column| column.name.to_uppercase()))
            .collect()
    }

    /// The rows.
    pub(crate) fn lines(&self, style: Style) -> Vec<Vec<String>> {
        self.rows.iter().map(|row| self.line(row, style)).collect()
    }

    fn line(&self, row: &Row, style: Style) -> Vec<String> {
        let namespace = style.namespaces.then(|| {
            row.object
                .pointer("/metadata/namespace")
                .and_then(Value::as_str)
                .unwrap_or("")
                .to_owned()
        });
        let cells = self
            .columns()
            .iter()
            .zip(&row.cells)
            .filter(|(column, _)| style.wide || column.priority == 0);
        namespace
            .into_iter()
            .chain(cells.map(|(_, cell)| text_of(cell)))
            .collect()
    }
}

fn text_of(cell: &Value) -> String {
    match cell {
        // What kubectl shows for a column without a value.
        Value::Null => "<none>".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::printer::{Widths, aligned};

    fn table() -> Table {
        serde_json::from_value(json!({
            "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": "42"},
            "columnDefinitions": [
                {"name": "Name", "type": "string", "priority": 0},
                {"name": "Last sync", "type": "string", "priority": 0},
                {"name": "Node", "type": "string", "priority": 1},
            ],
            "rows": [
                {"cells": ["database", "2026-11-21T10:00:00Z", "here"], "object": {"metadata": {"name": "database", "namespace": "east"}}},
                {"cells": ["photos", null, "here"], "object": {"metadata": {"name": "photos", "namespace": "west"}}},
            ],
        }))
        .unwrap()
    }

    fn drawn(style: Style) -> String {
        let table = table();
        let mut rows = vec![table.heading(style)];
        rows.extend(table.lines(style));
        aligned(&rows, &mut Widths::default()).join("\n")
    }

    #[test]
    fn a_table_looks_as_kubectls() {
        insta::assert_snapshot!(drawn(Style::default()), @r"
        NAME       LAST SYNC
        database   2026-11-21T10:00:00Z
        photos     <none>
        ");
    }

    #[test]
    fn a_wide_table_of_all_namespaces_has_more_columns() {
        insta::assert_snapshot!(drawn(Style { wide: true, namespaces: true }), @r"
        NAMESPACE   NAME       LAST SYNC              NODE
        east        database   2026-11-21T10:00:00Z   here
        west        photos     <none>                 here
        ");
    }

    #[test]
    fn later_events_of_a_watch_have_the_columns_of_the_first() {
        let event: Table = serde_json::from_value(json!({
            "columnDefinitions": null, "metadata": {"resourceVersion": "43"},
            "rows": [{"cells": ["database", "2026-11-21T10:05:00Z", "here"], "object": {}}],
        }))
        .unwrap();
        let lines = event.following(&table()).lines(Style::default());
        assert_eq!(lines, [["database", "2026-11-21T10:05:00Z"]]);
    }

    #[test]
    fn a_watch_goes_on_where_the_list_ended() {
        assert_eq!(table().resource_version(), "42");
    }
}
