use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

/// RFC 7396, as its text gives it.
fn merge(target: Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else {
        return patch.clone();
    };
    let mut merged = match target {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    for (name, value) in patch {
        if value.is_null() {
            merged.remove(name);
        } else {
            let old = merged.remove(name).unwrap_or(Value::Null);
            merged.insert(name.clone(), merge(old, value));
        }
    }
    Value::Object(merged)
}

fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        (0..5i64).prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from)
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-d]", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn object() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[a-d]", tree(), 0..4)
        .prop_map(|map| Value::Object(map.into_iter().collect()))
}

proptest! {
    #[test]
    fn a_patch_takes_the_old_status_to_the_new_one(old in object(), new in object()) {
        let patched = match difference(&old, &new) {
            Some(patch) => merge(old, &patch),
            None => old,
        };
        prop_assert_eq!(patched, new);
    }
}

#[test]
fn equal_statuses_need_no_write() {
    assert_eq!(difference(&json!({"a": 1}), &json!({"a": 1})), None);
}

#[test]
fn a_removed_field_is_patched_with_null() {
    assert_eq!(
        difference(&json!({"a": 1, "b": {"c": 2}}), &json!({"b": {"d": 3}})),
        Some(json!({"a": null, "b": {"c": null, "d": 3}}))
    );
}

#[test]
fn what_another_mover_keeps_in_the_status_survives_reading_and_writing() {
    let text = json!({
        "lastManualSync": "now",
        "restic": {"lastUnlocked": "x"},
        "external": {"a": "b"},
        "rsync": {"sshKeys": "keys", "lastSyncedEntries": 4},
        "rclone": {"generation": "3-x", "volume": "v", "lastSyncedEntries": 5, "allowedEmptySource": "a",
            "tookOver": "u", "blind": true, "runsSinceFullCheck": 2, "triedWith": "1/2"},
    });
    let mut status: ReplicationSourceStatus = serde_json::from_value(text.clone()).unwrap();
    State::of_source(&status).write_source(&mut status);
    assert_eq!(serde_json::to_value(status).unwrap(), text);
}
