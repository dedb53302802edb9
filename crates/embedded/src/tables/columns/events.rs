//! Events.

use serde_json::{Value, json};

use super::{Column, Compute, at, column, name, text, wide};
use crate::tables::age;

/// Events: those of core/v1 and of events.k8s.io/v1 differ in their fields' names only.
pub(super) fn events(core: bool) -> Vec<Column> {
    let object: Compute = if core {
        |event, _| json!(reference(event, "/involvedObject"))
    } else {
        |event, _| json!(reference(event, "/regarding"))
    };
    let note: Compute = if core {
        |event, _| json!(text(event, "/message").trim())
    } else {
        |event, _| json!(text(event, "/note").trim())
    };
    vec![
        column("Last Seen", |event, now| {
            json!(age::since(last_seen(event), now))
        }),
        column("Type", |event, _| at(event, "/type")),
        column("Reason", |event, _| at(event, "/reason")),
        column("Object", object),
        wide("Subobject", |event, _| {
            json!(text(event, "/involvedObject/fieldPath"))
        }),
        wide("Source", |event, _| json!(text(event, "/source/component"))),
        column("Message", note),
        wide("First Seen", |event, now| {
            json!(age::since(first_seen(event), now))
        }),
        wide("Count", |event, _| {
            event
                .pointer("/series/count")
                .or_else(|| event.pointer("/count"))
                .cloned()
                .unwrap_or_else(|| json!(1))
        }),
        Column {
            priority: 1,
            ..name()
        },
    ]
}

fn reference(event: &Value, pointer: &str) -> String {
    let found = event.pointer(pointer).unwrap_or(&Value::Null);
    format!(
        "{}/{}",
        text(found, "/kind").to_lowercase(),
        text(found, "/name")
    )
}

fn first_of<'a>(event: &'a Value, pointers: &[&str]) -> Option<&'a Value> {
    pointers
        .iter()
        .filter_map(|pointer| event.pointer(pointer))
        .find(|value| value.is_string())
}

fn last_seen(event: &Value) -> Option<&Value> {
    first_of(
        event,
        &[
            "/series/lastObservedTime",
            "/lastTimestamp",
            "/deprecatedLastTimestamp",
            "/eventTime",
            "/metadata/creationTimestamp",
        ],
    )
}

fn first_seen(event: &Value) -> Option<&Value> {
    first_of(
        event,
        &[
            "/firstTimestamp",
            "/deprecatedFirstTimestamp",
            "/eventTime",
            "/metadata/creationTimestamp",
        ],
    )
}
