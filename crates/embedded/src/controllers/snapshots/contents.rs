//! Contents: bound to snapshots that name them, and removed with their images as their deletion policy says.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Preconditions};
use serde_json::json;

use super::kinds::{VolumeSnapshot, VolumeSnapshotContent};
use super::{AS_SOURCE, BEING_DELETED, BOUND, CONTENT_BOUND, Fault, Snapshots};
use crate::controllers::DRIVER;
use crate::controllers::objects::{
    add_finalizers, is_going, merge, merge_status, optional, remove_finalizers,
};

impl Snapshots {
    /// A deleted snapshot goes when its content has gone, or at once when that is retained.
    pub(super) async fn release(&self, snapshot: &VolumeSnapshot) -> Result<(), Fault> {
        self.release_claim(snapshot).await?;
        let made = format!("snapcontent-{}", snapshot.uid().unwrap_or_default());
        let name = snapshot.content().unwrap_or(&made);
        let contents = self.contents();
        let content =
            optional(contents.get(name).await)?.filter(|content| refers_to(content, snapshot));
        if let Some(content) = content {
            if !content.annotations().contains_key(BEING_DELETED) {
                let change = json!({ "metadata": { "annotations": { BEING_DELETED: "yes" } } });
                merge(&contents, name, &change).await?;
            }
            if content.spec.deletion_policy == "Delete" {
                if !is_going(&content) {
                    let only_this = Preconditions {
                        uid: content.uid(),
                        resource_version: None,
                    };
                    let how = DeleteParams {
                        preconditions: Some(only_this),
                        ..DeleteParams::default()
                    };
                    optional(contents.delete(name, &how).await)?;
                }
                // Its end brings this snapshot back here.
                if optional(contents.get(name).await)?.is_some() {
                    return Ok(());
                }
            }
        }
        let api = self.snapshots(&snapshot.namespace().unwrap_or_default());
        Ok(remove_finalizers(&api, snapshot, &[AS_SOURCE, BOUND]).await?)
    }

    /// Removes the image of a content that is being deleted, once no snapshot needs it.
    pub(super) async fn content(&self, name: &str) -> Result<(), Fault> {
        let contents = self.contents();
        let Some(content) = optional(contents.get(name).await)? else {
            return Ok(());
        };
        if !is_going(&content) || content.spec.driver != DRIVER {
            return Ok(());
        }
        let wanted = &content.spec.volume_snapshot_ref;
        let snapshots = self.snapshots(wanted.namespace.as_deref().unwrap_or_default());
        let snapshot = optional(
            snapshots
                .get(wanted.name.as_deref().unwrap_or_default())
                .await,
        )?;
        if snapshot.is_some_and(|snapshot| refers_to(&content, &snapshot) && !is_going(&snapshot)) {
            return Ok(());
        }
        if content.spec.deletion_policy == "Delete" {
            // A copy broken off before the status was written has left the image under the content's name.
            let image = content.image().unwrap_or(name).to_owned();
            let volumes = self.context.volumes.clone();
            tokio::task::spawn_blocking(move || volumes.delete_image(&image)).await??;
        }
        Ok(remove_finalizers(&contents, &content, &[CONTENT_BOUND]).await?)
    }

    /// A snapshot that names an existing content, which must name it too.
    pub(super) async fn bind_existing(&self, snapshot: &VolumeSnapshot) -> Result<(), Fault> {
        let Some(name) = &snapshot.spec.source.volume_snapshot_content_name else {
            return Ok(());
        };
        let (namespace, own_name) = (
            snapshot.namespace().unwrap_or_default(),
            snapshot.name_any(),
        );
        let contents = self.contents();
        let Some(content) = optional(contents.get(name).await)? else {
            let message = format!("VolumeSnapshotContent {name} is missing");
            return self
                .refuse(snapshot, "SnapshotContentMissing", &message)
                .await;
        };
        if !refers_to(&content, snapshot) {
            let message = format!("VolumeSnapshotContent {name} is bound to a different snapshot");
            return self
                .refuse(snapshot, "SnapshotContentMisbound", &message)
                .await;
        }
        let image = content.image().unwrap_or_default().to_owned();
        let about = self.context.volumes.about_image(&image);
        let Ok(about) = about else {
            let message =
                format!("there is no image {image}, which VolumeSnapshotContent {name} names");
            return self
                .refuse(snapshot, "SnapshotContentMissing", &message)
                .await;
        };
        if content.spec.volume_snapshot_ref.uid.is_none() {
            let change = json!({ "spec": { "volumeSnapshotRef": {
                "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
                "name": own_name, "namespace": namespace, "uid": snapshot.uid(),
            }}});
            merge(&contents, name, &change).await?;
        }
        add_finalizers(&contents, &content, &[CONTENT_BOUND]).await?;
        let api = self.snapshots(&namespace);
        add_finalizers(&api, snapshot, &[AS_SOURCE, BOUND]).await?;
        let size = content
            .status
            .as_ref()
            .and_then(|status| status.restore_size);
        let made_at = content
            .made_at()
            .unwrap_or_else(|| self.context.clock.now());
        if content
            .status
            .as_ref()
            .and_then(|status| status.ready_to_use)
            != Some(true)
        {
            let status = json!({ "status": { "readyToUse": true, "snapshotHandle": image } });
            merge_status(&contents, name, &status).await?;
        }
        let annotations = crate::controllers::volumes::consistency_annotations(&about);
        merge(
            &api,
            &own_name,
            &json!({ "metadata": { "annotations": annotations } }),
        )
        .await?;
        let status = json!({ "status": {
            "boundVolumeSnapshotContentName": name, "readyToUse": true, "creationTime": Time(made_at),
            "restoreSize": size.map(|size| size.to_string()), "error": null,
        }});
        merge_status(&api, &own_name, &status).await?;
        Ok(())
    }
}

/// Whether the content names this snapshot and no earlier one of its name.
fn refers_to(content: &VolumeSnapshotContent, snapshot: &VolumeSnapshot) -> bool {
    let wanted = &content.spec.volume_snapshot_ref;
    wanted.name.as_deref() == Some(&snapshot.name_any())
        && wanted.namespace == snapshot.namespace()
        && wanted
            .uid
            .as_ref()
            .is_none_or(|uid| Some(uid) == snapshot.uid().as_ref())
}
