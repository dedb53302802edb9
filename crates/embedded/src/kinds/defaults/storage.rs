//! Defaults of claims, volumes and storage classes.

use serde_json::{Value, json};

use super::super::World;
use super::{absent, add_finalizer, empty, map};

/// Marks the class that claims get when they name none.
const IS_DEFAULT: &str = "/metadata/annotations/storageclass.kubernetes.io~1is-default-class";

/// A claim's defaults.
pub(super) fn fill_claim(claim: &mut Value) {
    let Some(spec) = map(claim, "spec") else {
        return;
    };
    absent(spec, "volumeMode", || json!("Filesystem"));
}

/// A volume's defaults.
pub(super) fn fill_volume(volume: &mut Value) {
    let Some(spec) = map(volume, "spec") else {
        return;
    };
    empty(spec, "persistentVolumeReclaimPolicy", "Retain");
    absent(spec, "volumeMode", || json!("Filesystem"));
    if let Some(path) = spec.get_mut("hostPath").and_then(Value::as_object_mut) {
        absent(path, "type", || json!(""));
    }
}

/// A storage class's defaults.
pub(super) fn fill_class(class: &mut Value) {
    let Some(class) = class.as_object_mut() else {
        return;
    };
    absent(class, "reclaimPolicy", || json!("Delete"));
    absent(class, "volumeBindingMode", || json!("Immediate"));
}

/// A new claim: its class, its finalizer, its source in both fields.
pub(super) fn prepare_claim(claim: &mut Value, world: &dyn World) {
    add_finalizer(claim, "kubernetes.io/pvc-protection");
    super::set_status(claim, json!({ "phase": "Pending" }));
    let Some(spec) = map(claim, "spec") else {
        return;
    };
    if !spec.contains_key("storageClassName")
        && let Some(class) = default_class(world)
    {
        spec.insert("storageClassName".to_owned(), class);
    }
    match (
        spec.get("dataSource").cloned(),
        spec.get("dataSourceRef").cloned(),
    ) {
        (Some(source), None) => {
            spec.insert("dataSourceRef".to_owned(), source);
        }
        (None, Some(source)) if source.get("namespace").is_none() => {
            spec.insert("dataSource".to_owned(), source);
        }
        _ => {}
    }
}

/// The newest of the classes that are marked as default.
fn default_class(world: &dyn World) -> Option<Value> {
    let classes = world.list("storage.k8s.io", "storageclasses");
    let made = |class: &Value| {
        class
            .pointer("/metadata/creationTimestamp")
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let default = classes
        .into_iter()
        .filter(|class| class.pointer(IS_DEFAULT) == Some(&json!("true")))
        .max_by_key(made)?;
    default.pointer("/metadata/name").cloned()
}

/// A new volume: its finalizer and first status.
pub(super) fn prepare_volume(volume: &mut Value) {
    add_finalizer(volume, "kubernetes.io/pv-protection");
    super::set_status(volume, json!({ "phase": "Pending" }));
}
