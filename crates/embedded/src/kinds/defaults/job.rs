//! Defaults of Jobs, and the selector and labels that tie a Job to its pods.

use serde_json::{Map, Value, json};

use super::{absent, map, pod};

/// A Job's defaults.
pub(super) fn fill(job: &mut Value) {
    let Some(spec) = map(job, "spec") else { return };
    if spec.get("completions").is_none() && spec.get("parallelism").is_none() {
        spec.insert("completions".to_owned(), json!(1));
    }
    absent(spec, "parallelism", || json!(1));
    if spec.get("backoffLimit").is_none() {
        let limit = if spec.contains_key("backoffLimitPerIndex") {
            i32::MAX
        } else {
            6
        };
        spec.insert("backoffLimit".to_owned(), json!(limit));
    }
    absent(spec, "completionMode", || json!("NonIndexed"));
    absent(spec, "suspend", || json!(false));
    absent(spec, "manualSelector", || json!(false));
    let policy = if spec.contains_key("podFailurePolicy") {
        "Failed"
    } else {
        "TerminatingOrFailed"
    };
    absent(spec, "podReplacementPolicy", || json!(policy));
    if let Some(template) = spec
        .get_mut("template")
        .and_then(|template| template.get_mut("spec"))
        .and_then(Value::as_object_mut)
    {
        // A Job must say its restart policy: the default of pods does not fit it, and is refused by the validation.
        let named = template
            .get("restartPolicy")
            .and_then(Value::as_str)
            .is_some_and(|policy| !policy.is_empty());
        pod::fill_spec(template);
        if !named {
            template.insert("restartPolicy".to_owned(), json!("Always"));
        }
    }
}

/// The labels and the selector by which a Job knows its pods, unless it brings its own.
pub(super) fn prepare(job: &mut Value) {
    let text = |pointer: &str| {
        job.pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let (uid, name) = (text("/metadata/uid"), text("/metadata/name"));
    super::set_status(job, json!({}));
    if job.pointer("/spec/manualSelector") == Some(&Value::Bool(true)) {
        return;
    }
    let Some(spec) = map(job, "spec") else { return };
    let template = spec.entry("template").or_insert_with(|| json!({}));
    let labels = map(template, "metadata")
        .map(|metadata| metadata.entry("labels").or_insert_with(|| json!({})));
    let Some(Value::Object(labels)) = labels else {
        return;
    };
    for (key, value) in [
        ("batch.kubernetes.io/controller-uid", &uid),
        ("controller-uid", &uid),
        ("batch.kubernetes.io/job-name", &name),
        ("job-name", &name),
    ] {
        labels.insert(key.to_owned(), json!(value));
    }
    let all: Map<String, Value> = labels.clone();
    if let Some(selector) = spec
        .entry("selector")
        .or_insert_with(|| json!({}))
        .as_object_mut()
        && let Some(matching) = selector
            .entry("matchLabels")
            .or_insert_with(|| json!({}))
            .as_object_mut()
    {
        matching.insert("batch.kubernetes.io/controller-uid".to_owned(), json!(uid));
    }
    if let Some(metadata) = map(job, "metadata") {
        absent(metadata, "labels", || Value::Object(all));
    }
}
