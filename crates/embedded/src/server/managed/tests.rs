//! Ownership and apply, with the recorded answers of a real server as examples.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::kinds::Registry;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn applied(manager: &str, data: &Value, force: bool) -> Applied {
    Applied {
        config: json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "app"}, "data": data}),
        manager: manager.to_owned(),
        force,
        status: false,
        warnings: Vec::new(),
    }
}

/// The manager, its operation and its fields, entry by entry.
fn owners(object: &Value) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    entries
        .iter()
        .map(|entry| json!([entry["manager"], entry["operation"], entry["fieldsV1"]]))
        .collect()
}

fn new_map(manager: &str, data: &Value) -> Value {
    let config_maps = Registry::built_in().find("", "v1", "configmaps").unwrap();
    let applied = applied(manager, data, false);
    let mut object = applied.config.clone();
    applied_new(config_maps.as_ref(), &mut object, &applied, at(0));
    object
}

fn apply_to(object: &Value, applied: &Applied, second: i64) -> Result<Value, Failure> {
    let config_maps = Registry::built_in().find("", "v1", "configmaps").unwrap();
    apply(config_maps.as_ref(), object, applied, at(second))
}

#[test]
fn an_update_owns_what_it_changes_with_the_maps_that_it_makes() {
    let config_maps = Registry::built_in().find("", "v1", "configmaps").unwrap();
    let mut object = json!({"kind": "ConfigMap", "apiVersion": "v1",
        "metadata": {"name": "one", "labels": {"x": "1"}}, "data": {"a": "1"}});
    created(config_maps.as_ref(), &mut object, "unknown", at(0));
    let fields =
        json!({"f:data": {".": {}, "f:a": {}}, "f:metadata": {"f:labels": {".": {}, "f:x": {}}}});
    assert_eq!(owners(&object), json!([["unknown", "Update", fields]]));

    let mut changed = object.clone();
    changed["data"] = json!({"b": "3"});
    let writer = Writer {
        manager: "other",
        status: false,
        now: at(1),
    };
    updated(config_maps.as_ref(), &mut changed, &object, None, &writer);
    let mine = json!({"f:data": {}, "f:metadata": {"f:labels": {".": {}, "f:x": {}}}});
    assert_eq!(
        owners(&changed)[0],
        json!(["unknown", "Update", mine]).clone()
    );
    assert_eq!(
        owners(&changed)[1],
        json!(["other", "Update", {"f:data": {"f:b": {}}}])
    );
}

#[test]
fn a_built_in_kinds_own_structs_are_nobodys() {
    let jobs = Registry::built_in().find("batch", "v1", "jobs").unwrap();
    let mut job = json!({"kind": "Job", "apiVersion": "batch/v1", "metadata": {"name": "j"}, "spec": {
        "parallelism": 0,
        "template": {"spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never"}},
    }});
    created(jobs.as_ref(), &mut job, "unknown", at(0));
    let fields = json!({"f:spec": {"f:parallelism": {}, "f:template": {"f:spec": {
        "f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:image": {}, "f:name": {}}},
        "f:restartPolicy": {},
    }}}});
    assert_eq!(owners(&job)[0][2], fields);
}

#[test]
fn applying_another_value_conflicts_and_force_takes_the_field() {
    let object = new_map("one", &json!({"k": "1", "l": "1"}));
    let refused = apply_to(&object, &applied("two", &json!({"k": "2"}), false), 1).unwrap_err();
    assert_eq!(
        refused.message,
        "Apply failed with 1 conflict: conflict with \"one\": .data.k"
    );
    let forced = apply_to(&object, &applied("two", &json!({"k": "2"}), true), 1).unwrap();
    assert_eq!(forced["data"], json!({"k": "2", "l": "1"}));
    let expected = json!([
        ["one", "Apply", {"f:data": {"f:l": {}}}],
        ["two", "Apply", {"f:data": {"f:k": {}}}],
    ]);
    assert_eq!(owners(&forced), expected);
}

#[test]
fn applying_the_same_value_shares_it_without_a_time() {
    let object = new_map("two", &json!({"k": "2"}));
    let shared = apply_to(&object, &applied("three", &json!({"k": "2"}), false), 1).unwrap();
    assert_eq!(
        owners(&shared)[0],
        json!(["three", "Apply", {"f:data": {"f:k": {}}}])
    );
    assert_eq!(shared["metadata"]["managedFields"][0].get("time"), None);
    let refused = apply_to(
        &shared,
        &applied("one", &json!({"k": "9", "l": "1"}), false),
        2,
    )
    .unwrap_err();
    assert_eq!(
        refused.message,
        "Apply failed with 2 conflicts: conflicts with \"three\":\n- .data.k\nconflicts with \"two\":\n- .data.k"
    );
}

#[test]
fn what_is_applied_no_longer_goes_unless_another_holds_it() {
    let object = new_map("one", &json!({"k": "1", "l": "1"}));
    let shared = apply_to(&object, &applied("two", &json!({"k": "1"}), false), 1).unwrap();
    let left = apply_to(&shared, &applied("one", &json!({}), false), 2).unwrap();
    assert_eq!(left["data"], json!({"k": "1"}));
    assert_eq!(
        owners(&left),
        json!([
            ["two", "Apply", {"f:data": {"f:k": {}}}],
            ["one", "Apply", {"f:data": {}}],
        ])
    );
}
