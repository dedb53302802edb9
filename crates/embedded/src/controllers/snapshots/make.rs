//! Making a snapshot: content, finalizers, image, then readiness.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::ResourceExt as _;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use syncline_volumes::{Copied, Source};

use super::kinds::{VolumeSnapshot, VolumeSnapshotClass, VolumeSnapshotContent};
use super::{AS_SOURCE, BEING_CREATED, BOUND, CLAIM_IN_USE, CONTENT_BOUND, Fault, Snapshots};
use crate::controllers::DRIVER;
use crate::controllers::objects::{
    add_finalizers, created, is_going, merge, merge_status, optional,
};
use crate::controllers::volumes::{Place, consistency_annotations, is_bound, place_of};
use crate::node::events::Severity;
use crate::node::quantity;

impl Snapshots {
    /// Takes a snapshot as far as it goes now; the changes it makes on the way bring it back here.
    pub(super) async fn make(&self, snapshot: &VolumeSnapshot) -> Result<(), Fault> {
        let namespace = snapshot.namespace().unwrap_or_default();
        // A class that is named is looked for before the claim, the default one after it.
        let named = snapshot.spec.volume_snapshot_class_name.is_some();
        if named && self.class(snapshot).await?.is_none() {
            return Ok(());
        }
        let Some(claim) = self.claim(snapshot, &namespace).await? else {
            return Ok(());
        };
        let Some(class) = self.class(snapshot).await? else {
            return Ok(());
        };
        if class.driver != DRIVER {
            // Another driver's, which is not here.
            return Ok(());
        }
        let api = self.snapshots(&namespace);
        if snapshot.spec.volume_snapshot_class_name.is_none() {
            let change = json!({ "spec": { "volumeSnapshotClassName": class.name_any() } });
            merge(&api, &snapshot.name_any(), &change).await?;
        }
        let Some(volume) = self.volume(snapshot, &claim).await? else {
            return Ok(());
        };
        add_finalizers(&api, snapshot, &[AS_SOURCE]).await?;
        // One that is held on to for this snapshot waits for it.
        let held = claim
            .finalizers()
            .iter()
            .any(|finalizer| finalizer == CLAIM_IN_USE);
        if is_going(&claim) && !held {
            return Ok(());
        }
        add_finalizers(&self.claims(&namespace), &claim, &[CLAIM_IN_USE]).await?;
        let content = self.content_for(snapshot, &class, &volume).await?;
        add_finalizers(&api, snapshot, &[BOUND]).await?;
        let place = place_of(&self.context.volumes, &volume);
        let done = self.take(&content, &claim, place).await;
        match done {
            Ok(copied) => self.publish(snapshot, &content, &claim, &copied).await,
            Err(Fault::Volumes(error)) => {
                let message = format!("Failed to create snapshot: {error}");
                self.refuse(snapshot, "SnapshotCreationFailed", &message)
                    .await?;
                Err(error.into())
            }
            Err(other) => Err(other),
        }
    }

    /// The claim to be snapshotted; a missing one is told.
    async fn claim(
        &self,
        snapshot: &VolumeSnapshot,
        namespace: &str,
    ) -> Result<Option<PersistentVolumeClaim>, Fault> {
        let Some(name) = snapshot.claim() else {
            return Ok(None);
        };
        let claim = optional(self.claims(namespace).get(name).await)?;
        if claim.is_none() {
            let (reason, what) = match snapshot.spec.volume_snapshot_class_name {
                None => (
                    "SetDefaultSnapshotClassFailed",
                    "set default snapshot class",
                ),
                Some(_) => ("SnapshotContentCreationFailed", "create snapshot content"),
            };
            let cause = format!(
                "failed to retrieve PVC {name} from the lister: \"persistentvolumeclaim \\\"{name}\\\" not found\""
            );
            self.refuse(
                snapshot,
                reason,
                &format!("Failed to {what} with error {cause}"),
            )
            .await?;
        }
        Ok(claim)
    }

    /// The volume behind the claim; a claim without one is told.
    async fn volume(
        &self,
        snapshot: &VolumeSnapshot,
        claim: &PersistentVolumeClaim,
    ) -> Result<Option<PersistentVolume>, Fault> {
        let volumes: Api<PersistentVolume> = Api::all(self.context.client.clone());
        let name = claim
            .spec
            .as_ref()
            .and_then(|spec| spec.volume_name.clone())
            .filter(|_| is_bound(claim));
        let volume = match &name {
            Some(name) => optional(volumes.get(name).await)?,
            None => None,
        };
        if volume.is_none() {
            let message = format!(
                "Failed to create snapshot content with error the PVC {} is not yet bound to a PV, will not attempt to take a snapshot",
                claim.name_any()
            );
            self.refuse(snapshot, "SnapshotContentCreationFailed", &message)
                .await?;
        }
        Ok(volume)
    }

    async fn content_for(
        &self,
        snapshot: &VolumeSnapshot,
        class: &VolumeSnapshotClass,
        volume: &PersistentVolume,
    ) -> Result<VolumeSnapshotContent, Fault> {
        let name = format!("snapcontent-{}", snapshot.uid().unwrap_or_default());
        let namespace = snapshot.namespace().unwrap_or_default();
        let contents = self.contents();
        let existing = optional(contents.get(&name).await)?;
        let content = if let Some(content) = existing {
            content
        } else {
            let content: VolumeSnapshotContent = content_manifest(&name, snapshot, class, volume)?;
            created(contents.create(&PostParams::default(), &content).await)?;
            let message = format!(
                "Waiting for a snapshot {namespace}/{} to be created by the CSI driver.",
                snapshot.name_any()
            );
            self.recorder
                .record(snapshot, Severity::Normal, "CreatingSnapshot", &message)
                .await;
            contents.get(&name).await?
        };
        add_finalizers(&contents, &content, &[CONTENT_BOUND]).await?;
        if snapshot.content().is_none() {
            let status = json!({ "status": { "boundVolumeSnapshotContentName": name, "readyToUse": false } });
            merge_status(&self.snapshots(&namespace), &snapshot.name_any(), &status).await?;
        }
        Ok(content)
    }

    /// Makes the image unless it is there, and writes down in the content that it is.
    async fn take(
        &self,
        content: &VolumeSnapshotContent,
        claim: &PersistentVolumeClaim,
        place: Place,
    ) -> Result<Copied, Fault> {
        let image = content.name_any();
        let volumes = self.context.volumes.clone();
        let name = image.clone();
        // The data may be as old as the beginning of the copy.
        let began = self.context.clock.now();
        let copied = tokio::task::spawn_blocking(move || match &place {
            Place::Own(volume) => volumes.snapshot(Source::Volume(volume), &name),
            Place::Adopted(folder) => volumes.snapshot(Source::Folder(folder), &name),
        })
        .await??;
        if content.image().is_none() {
            let size = capacity(claim)
                .as_deref()
                .and_then(quantity::bytes)
                .unwrap_or(0);
            let nanoseconds = i64::try_from(began.as_nanosecond()).unwrap_or(i64::MAX);
            let status = json!({ "status": {
                "creationTime": nanoseconds, "readyToUse": true, "restoreSize": size, "snapshotHandle": image,
            }});
            merge_status(&self.contents(), &image, &status).await?;
        }
        merge(
            &self.contents(),
            &image,
            &json!({ "metadata": { "annotations": { BEING_CREATED: null } } }),
        )
        .await?;
        Ok(copied)
    }

    /// Consistency first, readiness last: who waits for readiness finds the rest.
    async fn publish(
        &self,
        snapshot: &VolumeSnapshot,
        content: &VolumeSnapshotContent,
        claim: &PersistentVolumeClaim,
        copied: &Copied,
    ) -> Result<(), Fault> {
        let (namespace, name) = (
            snapshot.namespace().unwrap_or_default(),
            snapshot.name_any(),
        );
        let api = self.snapshots(&namespace);
        let annotations = consistency_annotations(copied);
        merge(
            &api,
            &name,
            &json!({ "metadata": { "annotations": annotations } }),
        )
        .await?;
        let made_at = self
            .contents()
            .get(&content.name_any())
            .await?
            .made_at()
            .unwrap_or_else(|| self.context.clock.now());
        let status = json!({ "status": {
            "boundVolumeSnapshotContentName": content.name_any(),
            "creationTime": made_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "readyToUse": true,
            "restoreSize": capacity(claim),
            "error": null,
        }});
        merge_status(&api, &name, &status).await?;
        let message =
            format!("Snapshot {namespace}/{name} was successfully created by the CSI driver.");
        self.recorder
            .record(snapshot, Severity::Normal, "SnapshotCreated", &message)
            .await;
        let message = format!("Snapshot {namespace}/{name} is ready to use.");
        self.recorder
            .record(snapshot, Severity::Normal, "SnapshotReady", &message)
            .await;
        if let Some(unsettled) = annotations
            .get(crate::controllers::UNSETTLED)
            .and_then(Value::as_str)
        {
            let message =
                format!("The volume changed all the time while it was copied: {unsettled}");
            self.recorder
                .record(snapshot, Severity::Warning, "SnapshotUnsettled", &message)
                .await;
        }
        Ok(())
    }
}

/// The size that a volume made from a snapshot of this claim must have.
fn capacity(claim: &PersistentVolumeClaim) -> Option<String> {
    let capacity = claim.status.as_ref()?.capacity.as_ref()?;
    capacity.get("storage").map(|quantity| quantity.0.clone())
}

fn content_manifest(
    name: &str,
    snapshot: &VolumeSnapshot,
    class: &VolumeSnapshotClass,
    volume: &PersistentVolume,
) -> Result<VolumeSnapshotContent, Fault> {
    let mode = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_mode.clone());
    let manifest = json!({
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshotContent",
        "metadata": { "name": name, "annotations": { BEING_CREATED: "yes" } },
        "spec": {
            "deletionPolicy": class.deletion_policy,
            "driver": DRIVER,
            "source": { "volumeHandle": volume.name_any() },
            "sourceVolumeMode": mode,
            "volumeSnapshotClassName": class.name_any(),
            "volumeSnapshotRef": {
                "apiVersion": "snapshot.storage.k8s.io/v1",
                "kind": "VolumeSnapshot",
                "name": snapshot.name_any(),
                "namespace": snapshot.namespace(),
                "uid": snapshot.uid(),
                "resourceVersion": snapshot.resource_version(),
            },
        },
    });
    Ok(serde_json::from_value(manifest).map_err(kube::Error::SerdeError)?)
}
