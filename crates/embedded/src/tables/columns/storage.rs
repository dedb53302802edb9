//! Claims, volumes and storage classes.

use serde_json::{Value, json};

use super::{Cell, Column, Compute, age_column, at, column, list, name, text, wide};

/// `RWO,RWX`.
fn access_modes(object: &Value, pointer: &str) -> String {
    let short = |mode: &Value| match mode.as_str().unwrap_or_default() {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        _ => "",
    };
    list(object, pointer)
        .iter()
        .map(short)
        .collect::<Vec<_>>()
        .join(",")
}

pub(super) fn claims() -> Vec<Column> {
    vec![
        column("Status", |claim, _| {
            let deleting = claim.pointer("/metadata/deletionTimestamp").is_some();
            json!(if deleting {
                "Terminating"
            } else {
                text(claim, "/status/phase")
            })
        }),
        column("Volume", |claim, _| json!(text(claim, "/spec/volumeName"))),
        column("Capacity", |claim, _| {
            if text(claim, "/spec/volumeName").is_empty() {
                json!("")
            } else {
                json!(text(claim, "/status/capacity/storage"))
            }
        }),
        column("Access Modes", |claim, _| {
            if text(claim, "/spec/volumeName").is_empty() {
                json!("")
            } else {
                json!(access_modes(claim, "/status/accessModes"))
            }
        }),
        column("StorageClass", |claim, _| {
            json!(text(claim, "/spec/storageClassName"))
        }),
        column("VolumeAttributesClass", |claim, _| {
            unset(text(claim, "/spec/volumeAttributesClassName"))
        }),
        age_column(),
        wide("VolumeMode", |claim, _| {
            unset(text(claim, "/spec/volumeMode"))
        }),
    ]
}

fn unset(text: &str) -> Value {
    json!(if text.is_empty() { "<unset>" } else { text })
}

pub(super) fn volumes() -> Vec<Column> {
    vec![
        column("Capacity", |volume, _| {
            json!(text(volume, "/spec/capacity/storage"))
        }),
        column("Access Modes", |volume, _| {
            json!(access_modes(volume, "/spec/accessModes"))
        }),
        column("Reclaim Policy", |volume, _| {
            json!(text(volume, "/spec/persistentVolumeReclaimPolicy"))
        }),
        column("Status", |volume, _| {
            let deleting = volume.pointer("/metadata/deletionTimestamp").is_some();
            json!(if deleting {
                "Terminating"
            } else {
                text(volume, "/status/phase")
            })
        }),
        column("Claim", |volume, _| {
            match volume.pointer("/spec/claimRef") {
                Some(claim) => json!(format!(
                    "{}/{}",
                    text(claim, "/namespace"),
                    text(claim, "/name")
                )),
                None => json!(""),
            }
        }),
        column("StorageClass", |volume, _| {
            json!(text(volume, "/spec/storageClassName"))
        }),
        column("VolumeAttributesClass", |volume, _| {
            unset(text(volume, "/spec/volumeAttributesClassName"))
        }),
        column("Reason", |volume, _| json!(text(volume, "/status/reason"))),
        age_column(),
        wide("VolumeMode", |volume, _| {
            unset(text(volume, "/spec/volumeMode"))
        }),
    ]
}

fn class_name() -> Column {
    let mark: Compute = |class, _| {
        let default = text(
            class,
            "/metadata/annotations/storageclass.kubernetes.io~1is-default-class",
        ) == "true";
        json!(format!(
            "{}{}",
            text(class, "/metadata/name"),
            if default { " (default)" } else { "" }
        ))
    };
    Column {
        cell: Cell::Computed(mark),
        ..name()
    }
}

pub(super) fn classes() -> Vec<Column> {
    vec![
        class_name(),
        column("Provisioner", |class, _| at(class, "/provisioner")),
        column("ReclaimPolicy", |class, _| at(class, "/reclaimPolicy")),
        column("VolumeBindingMode", |class, _| {
            at(class, "/volumeBindingMode")
        }),
        column("AllowVolumeExpansion", |class, _| {
            json!(at(class, "/allowVolumeExpansion") == json!(true))
        }),
        age_column(),
    ]
}
