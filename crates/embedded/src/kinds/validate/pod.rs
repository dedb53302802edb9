//! Faults of pods, pod templates and Jobs.

use serde_json::{Value, json};

use super::super::meta::{self, NameRule};
use super::{FieldError, list, text};

/// Faults of a Job.
pub(super) fn job(object: &Value) -> Vec<FieldError> {
    let mut faults = Vec::new();
    for field in [
        "parallelism",
        "completions",
        "backoffLimit",
        "activeDeadlineSeconds",
        "ttlSecondsAfterFinished",
    ] {
        if let Some(number) = object
            .pointer(&format!("/spec/{field}"))
            .filter(|number| number.as_i64() < Some(0))
        {
            faults.push(FieldError::invalid(
                format!("spec.{field}"),
                number,
                "must be greater than or equal to 0",
            ));
        }
    }
    faults.extend(meta::label_faults(
        object.pointer("/spec/template/metadata/labels"),
        "spec.template.metadata.labels",
    ));
    let template = object
        .pointer("/spec/template/spec")
        .unwrap_or(&Value::Null);
    faults.extend(spec(template, "spec.template.spec", true));
    faults
}

/// Faults of a pod's spec; a Job's pods may not restart for ever.
pub(super) fn spec(spec: &Value, field: &str, of_job: bool) -> Vec<FieldError> {
    let mut faults = Vec::new();
    let policy = text(spec, "/restartPolicy");
    if of_job && matches!(policy, "Always" | "") {
        faults.push(FieldError::required(
            format!("{field}.restartPolicy"),
            "valid values: \"OnFailure\", \"Never\"",
        ));
    } else if !matches!(policy, "Always" | "OnFailure" | "Never") {
        let supported = ["Always", "OnFailure", "Never"];
        faults.push(FieldError::not_supported(
            format!("{field}.restartPolicy"),
            &json!(policy),
            &supported,
        ));
    }
    let volumes = volumes(spec, field, &mut faults);
    if list(spec, "/containers").is_empty() {
        faults.push(FieldError::required(format!("{field}.containers"), ""));
    }
    let mut names = Vec::new();
    for key in ["initContainers", "containers"] {
        for (position, container) in list(spec, &format!("/{key}")).iter().enumerate() {
            let here = format!("{field}.{key}[{position}]");
            let name = text(container, "/name");
            if !name.is_empty() && names.contains(&name) {
                faults.push(FieldError::duplicate(format!("{here}.name"), &json!(name)));
            }
            names.push(name);
            container_faults(container, &here, &volumes, &mut faults);
        }
    }
    if let Some(seconds) = spec
        .get("activeDeadlineSeconds")
        .filter(|seconds| seconds.as_i64() < Some(1))
    {
        let detail = "must be between 1 and 2147483647, inclusive";
        faults.push(FieldError::invalid(
            format!("{field}.activeDeadlineSeconds"),
            seconds,
            detail,
        ));
    }
    if let Some(seconds) = spec
        .get("terminationGracePeriodSeconds")
        .filter(|seconds| seconds.as_i64() < Some(0))
    {
        let detail = "must be greater than or equal to 0";
        faults.push(FieldError::invalid(
            format!("{field}.terminationGracePeriodSeconds"),
            seconds,
            detail,
        ));
    }
    faults
}

/// The volumes' names; faults are noted.
fn volumes<'a>(spec: &'a Value, field: &str, faults: &mut Vec<FieldError>) -> Vec<&'a str> {
    let mut names = Vec::new();
    for (position, volume) in list(spec, "/volumes").iter().enumerate() {
        let here = format!("{field}.volumes[{position}]");
        let name = text(volume, "/name");
        label(name, &format!("{here}.name"), faults);
        if !name.is_empty() && names.contains(&name) {
            faults.push(FieldError::duplicate(format!("{here}.name"), &json!(name)));
        }
        names.push(name);
        let sources = volume.as_object().map_or(0, |volume| {
            volume.keys().filter(|key| *key != "name").count()
        });
        if sources > 1 {
            faults.push(FieldError::forbidden(
                here.clone(),
                "may not specify more than 1 volume type",
            ));
        }
        for (source, key) in [
            ("secret", "secretName"),
            ("persistentVolumeClaim", "claimName"),
            ("configMap", "name"),
            ("hostPath", "path"),
        ] {
            if let Some(found) = volume.get(source)
                && text(found, &format!("/{key}")).is_empty()
            {
                faults.push(FieldError::required(format!("{here}.{source}.{key}"), ""));
            }
        }
    }
    names
}

fn label(name: &str, field: &str, faults: &mut Vec<FieldError>) {
    if name.is_empty() {
        faults.push(FieldError::required(field, ""));
        return;
    }
    for fault in meta::name_faults(NameRule::Label, name) {
        faults.push(FieldError::invalid(field, &json!(name), &fault));
    }
}

fn container_faults(
    container: &Value,
    field: &str,
    volumes: &[&str],
    faults: &mut Vec<FieldError>,
) {
    label(text(container, "/name"), &format!("{field}.name"), faults);
    if text(container, "/image").is_empty() {
        faults.push(FieldError::required(format!("{field}.image"), ""));
    }
    for (position, port) in list(container, "/ports").iter().enumerate() {
        let number = port
            .get("containerPort")
            .cloned()
            .unwrap_or_else(|| json!(0));
        if !number
            .as_i64()
            .is_some_and(|number| (1..=65_535).contains(&number))
        {
            let here = format!("{field}.ports[{position}].containerPort");
            faults.push(FieldError::invalid(
                here,
                &number,
                "must be between 1 and 65535, inclusive",
            ));
        }
    }
    for (position, variable) in list(container, "/env").iter().enumerate() {
        let here = format!("{field}.env[{position}]");
        if text(variable, "/name").is_empty() {
            faults.push(FieldError::required(format!("{here}.name"), ""));
        }
        if !text(variable, "/value").is_empty() && variable.get("valueFrom").is_some() {
            let detail = "may not be specified when `value` is not empty";
            faults.push(FieldError::invalid(
                format!("{here}.valueFrom"),
                &json!(""),
                detail,
            ));
        }
    }
    let mut paths = Vec::new();
    for (position, mount) in list(container, "/volumeMounts").iter().enumerate() {
        let here = format!("{field}.volumeMounts[{position}]");
        let (name, path) = (text(mount, "/name"), text(mount, "/mountPath"));
        if name.is_empty() {
            faults.push(FieldError::required(format!("{here}.name"), ""));
        } else if !volumes.contains(&name) {
            let message = format!("Not found: {name:?}");
            faults.push(FieldError {
                reason: "FieldValueNotFound",
                field: format!("{here}.name"),
                message,
            });
        }
        if path.is_empty() {
            faults.push(FieldError::required(format!("{here}.mountPath"), ""));
        } else if paths.contains(&path) {
            faults.push(FieldError::invalid(
                format!("{here}.mountPath"),
                &json!(path),
                "must be unique",
            ));
        }
        paths.push(path);
    }
}

/// A pod's spec without what may change.
fn fixed(pod: &Value) -> Value {
    let mut spec = pod.get("spec").cloned().unwrap_or(Value::Null);
    let Some(map) = spec.as_object_mut() else {
        return spec;
    };
    for key in [
        "activeDeadlineSeconds",
        "tolerations",
        "terminationGracePeriodSeconds",
    ] {
        map.remove(key);
    }
    for key in ["containers", "initContainers"] {
        let containers = map.get_mut(key).and_then(Value::as_array_mut);
        for container in containers
            .into_iter()
            .flatten()
            .filter_map(Value::as_object_mut)
        {
            container.remove("image");
        }
    }
    spec
}

const MAY_CHANGE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// A pod's spec hardly ever changes.
pub(super) fn update(new: &Value, old: &Value) -> Vec<FieldError> {
    // The node's binding of a pod is no change of what its maker asked for.
    let unbound = |mut spec: Value| {
        if let Some(map) = spec.as_object_mut() {
            map.remove("nodeName");
        }
        spec
    };
    let (now, before) = (fixed(new), fixed(old));
    let same = if text(old, "/spec/nodeName").is_empty() {
        unbound(now) == unbound(before)
    } else {
        now == before
    };
    if same {
        Vec::new()
    } else {
        vec![FieldError::forbidden("spec", MAY_CHANGE)]
    }
}
