//! Faults of claims, volumes and storage classes.

use serde_json::{Value, json};

use super::super::meta::quantity_value;
use super::{FieldError, list, text};

const MODES: &[&str] = &[
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];

fn access_modes(object: &Value, faults: &mut Vec<FieldError>) {
    let modes = list(object, "/spec/accessModes");
    if modes.is_empty() {
        faults.push(FieldError::required(
            "spec.accessModes",
            "at least 1 access mode is required",
        ));
    }
    for mode in modes
        .iter()
        .filter(|mode| !mode.as_str().is_some_and(|mode| MODES.contains(&mode)))
    {
        faults.push(FieldError::not_supported("spec.accessModes", mode, MODES));
    }
    let once = modes.contains(&json!("ReadWriteOncePod"));
    if once && modes.len() > 1 {
        let detail = "may not use ReadWriteOncePod with other access modes";
        faults.push(FieldError::forbidden("spec.accessModes", detail));
    }
}

/// Faults of a new claim.
pub(super) fn claim(claim: &Value) -> Vec<FieldError> {
    let mut faults = Vec::new();
    access_modes(claim, &mut faults);
    match claim.pointer("/spec/resources/requests/storage") {
        None => faults.push(FieldError::required("spec.resources[storage]", "")),
        Some(amount) => positive(amount, "spec.resources[storage]", &mut faults),
    }
    let mode = text(claim, "/spec/volumeMode");
    if !matches!(mode, "" | "Filesystem" | "Block") {
        faults.push(FieldError::not_supported(
            "spec.volumeMode",
            &json!(mode),
            &["Block", "Filesystem"],
        ));
    }
    if let (Some(source), Some(reference)) = (
        claim.pointer("/spec/dataSource"),
        claim.pointer("/spec/dataSourceRef"),
    ) && reference.get("namespace").is_none()
        && ["apiGroup", "kind", "name"]
            .iter()
            .any(|key| source.get(*key) != reference.get(*key))
    {
        let detail = "must match dataSourceRef";
        faults.push(FieldError::invalid("spec.dataSource", source, detail));
    }
    faults
}

fn positive(amount: &Value, field: &str, faults: &mut Vec<FieldError>) {
    let number = amount.as_str().and_then(quantity_value);
    if number.is_some_and(|number| number <= 0.0) {
        faults.push(FieldError::invalid(
            field,
            amount,
            "must be greater than zero",
        ));
    }
}

const FIXED: &str = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";

/// A claim's spec stays, but that a bound one may grow.
pub(super) fn claim_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let bound = text(old, "/status/phase") == "Bound";
    let mut now = new.get("spec").cloned().unwrap_or(Value::Null);
    let before = old.get("spec").cloned().unwrap_or(Value::Null);
    // The binder writes the volume's name into a claim that has none.
    if text(old, "/spec/volumeName").is_empty() {
        match (now.as_object_mut(), before.get("volumeName")) {
            (Some(spec), None) => drop(spec.remove("volumeName")),
            (Some(spec), Some(name)) => drop(spec.insert("volumeName".to_owned(), name.clone())),
            (None, _) => {}
        }
    }
    // A class may be given, once, to a claim that was made without one.
    if old.pointer("/spec/storageClassName").is_none()
        && let Some(spec) = now.as_object_mut()
    {
        spec.remove("storageClassName");
    }
    let mut compared = now.clone();
    if bound
        && let (Some(spec), Some(resources)) = (compared.as_object_mut(), before.get("resources"))
    {
        spec.insert("resources".to_owned(), resources.clone());
        match before.get("volumeAttributesClassName") {
            Some(class) => drop(spec.insert("volumeAttributesClassName".to_owned(), class.clone())),
            None => drop(spec.remove("volumeAttributesClassName")),
        }
    }
    if compared != before {
        let detail = format!(
            "{FIXED}\n{}",
            super::super::go_dump::claim_difference(&before, &compared)
        );
        return vec![FieldError::forbidden("spec", &detail)];
    }
    let amount = |spec: &Value| {
        spec.pointer("/resources/requests/storage")
            .and_then(Value::as_str)
            .and_then(quantity_value)
    };
    if amount(&now) < amount(&before) {
        let detail = "field can not be less than status.capacity";
        return vec![FieldError::forbidden(
            "spec.resources.requests.storage",
            detail,
        )];
    }
    Vec::new()
}

/// Keys of a volume's spec that name no kind of volume.
const NO_SOURCE: &[&str] = &[
    "capacity",
    "accessModes",
    "claimRef",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "mountOptions",
    "volumeMode",
    "nodeAffinity",
    "volumeAttributesClassName",
];

fn sources(volume: &Value) -> Vec<(&String, &Value)> {
    let spec = volume
        .get("spec")
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    spec.filter(|(key, _)| !NO_SOURCE.contains(&key.as_str()))
        .collect()
}

/// Faults of a new volume.
pub(super) fn volume(volume: &Value) -> Vec<FieldError> {
    let mut faults = Vec::new();
    access_modes(volume, &mut faults);
    match volume.pointer("/spec/capacity") {
        None => faults.push(FieldError::required("spec.capacity", "")),
        Some(capacity) => match capacity.get("storage") {
            None => faults.push(FieldError::not_supported(
                "spec.capacity",
                capacity,
                &["storage"],
            )),
            Some(amount) => positive(amount, "spec.capacity[storage]", &mut faults),
        },
    }
    let sources = sources(volume);
    match sources.as_slice() {
        [] => faults.push(FieldError::required("spec", "must specify a volume type")),
        [_] => {}
        [_, second, ..] => {
            let field = format!("spec.{}", second.0);
            faults.push(FieldError::forbidden(
                field,
                "may not specify more than 1 volume type",
            ));
        }
    }
    if let Some(path) = volume.pointer("/spec/hostPath")
        && text(path, "/path").is_empty()
    {
        faults.push(FieldError::required("spec.hostPath.path", ""));
    }
    let policy = text(volume, "/spec/persistentVolumeReclaimPolicy");
    if !matches!(policy, "Retain" | "Delete" | "Recycle") {
        let supported = ["Delete", "Recycle", "Retain"];
        faults.push(FieldError::not_supported(
            "spec.persistentVolumeReclaimPolicy",
            &json!(policy),
            &supported,
        ));
    }
    faults
}

/// A volume's source stays.
pub(super) fn volume_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut faults = Vec::new();
    if sources(new) != sources(old) {
        let detail = "spec.persistentvolumesource is immutable after creation";
        faults.push(FieldError::forbidden("spec.persistentvolumesource", detail));
    }
    faults.extend(super::immutable(new, old, "spec.volumeMode"));
    faults
}

/// Faults of a new storage class.
pub(super) fn class(class: &Value) -> Vec<FieldError> {
    let mut faults = Vec::new();
    if text(class, "/provisioner").is_empty() {
        faults.push(FieldError::required("provisioner", ""));
    }
    for (field, supported) in [
        ("reclaimPolicy", ["Delete", "Retain"]),
        ("volumeBindingMode", ["Immediate", "WaitForFirstConsumer"]),
    ] {
        let value = text(class, &format!("/{field}"));
        if !supported.contains(&value) {
            faults.push(FieldError::not_supported(field, &json!(value), &supported));
        }
    }
    faults
}

/// A storage class's meaning stays.
pub(super) fn class_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut faults = Vec::new();
    for field in ["parameters", "provisioner", "reclaimPolicy"] {
        if new.get(field) != old.get(field) {
            faults.push(FieldError::forbidden(
                field,
                &format!("updates to {field} are forbidden."),
            ));
        }
    }
    faults.extend(super::immutable(new, old, "volumeBindingMode"));
    faults
}
