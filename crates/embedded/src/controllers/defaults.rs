//! What a cluster with this driver has from the start: a storage class and a snapshot class.

use k8s_openapi::api::storage::v1::StorageClass;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, PostParams};
use serde_json::{Value, json};

use super::DRIVER;
use super::objects::created;

/// Why the defaults are not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    #[error(
        "the built-in description of a default class cannot be read: {0}; this is a fault of this program"
    )]
    Definition(String),
    #[error("cannot create {what}: {source}; the log says what the API server found")]
    Create {
        what: &'static str,
        source: Box<kube::Error>,
    },
}

fn create_error(what: &'static str) -> impl Fn(kube::Error) -> InstallError {
    move |source| InstallError::Create {
        what,
        source: Box::new(source),
    }
}

/// Creates what is missing; what is there, changed by the user perhaps, stays.
pub(super) async fn install(client: &Client) -> Result<(), InstallError> {
    let classes: Api<StorageClass> = Api::all(client.clone());
    let class: StorageClass = typed(storage_class())?;
    created(classes.create(&PostParams::default(), &class).await)
        .map_err(create_error("the storage class syncline"))?;
    let kind = GroupVersionKind::gvk("snapshot.storage.k8s.io", "v1", "VolumeSnapshotClass");
    let classes: Api<DynamicObject> = Api::all_with(
        client.clone(),
        &ApiResource::from_gvk_with_plural(&kind, "volumesnapshotclasses"),
    );
    let class: DynamicObject = typed(snapshot_class())?;
    created(classes.create(&PostParams::default(), &class).await)
        .map_err(create_error("the snapshot class syncline"))
}

fn typed<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, InstallError> {
    serde_json::from_value(value).map_err(|error| InstallError::Definition(error.to_string()))
}

fn storage_class() -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": "syncline",
            "annotations": { "storageclass.kubernetes.io/is-default-class": "true" },
        },
        "provisioner": DRIVER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "Immediate",
        "allowVolumeExpansion": true,
    })
}

fn snapshot_class() -> Value {
    json!({
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshotClass",
        "metadata": {
            "name": "syncline",
            "annotations": { "snapshot.storage.kubernetes.io/is-default-class": "true" },
        },
        "driver": DRIVER,
        "deletionPolicy": "Delete",
    })
}
