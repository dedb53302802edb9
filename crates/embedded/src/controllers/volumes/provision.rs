//! Making a volume for a claim: empty, from a snapshot, or as a clone.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, PostParams};
use serde_json::{Value, json};
use syncline_volumes::Source;

use super::{
    CLONING, Controller, DRIVER, Fault, PROVISIONED_BY, PROVISIONER, Place, SELECTED_NODE, bind,
    claims_of, consistency_annotations, is_block, is_bound, place_of, request, source, storage,
};
use crate::controllers::objects::{add_finalizers, created, is_going, merge, optional};
use crate::controllers::snapshots::kinds::{VolumeSnapshot, VolumeSnapshotContent};
use crate::node::events::Severity;
use crate::node::quantity;
use crate::node::references::NODE_NAME;

/// What fills the new volume.
enum Filling {
    Nothing,
    Image(String),
    Volume(Place),
}

impl Controller {
    /// A claim without a volume: one that suits, else a new one if its class is ours.
    pub(super) async fn find_or_make(&self, claim: &PersistentVolumeClaim) -> Result<(), Fault> {
        // What is reserved for a claim is what it was to be filled with, by whoever filled it.
        if let Some(volume) = self.existing_volume(claim).await?
            && (source::of(claim).is_none() || bind::is_reserved_for(&volume, claim))
        {
            return self.bind(claim, &volume, json!({})).await;
        }
        let name = claim
            .spec
            .as_ref()
            .and_then(|spec| spec.storage_class_name.clone())
            .unwrap_or_default();
        if name.is_empty() {
            let message =
                "no persistent volumes available for this claim and no storage class is set";
            self.binder
                .record(claim, Severity::Normal, "FailedBinding", message)
                .await;
            return Ok(());
        }
        let classes: Api<StorageClass> = Api::all(self.context.client.clone());
        let Some(class) = optional(classes.get(&name).await)? else {
            let message = format!("storageclass.storage.k8s.io \"{name}\" not found");
            self.binder
                .record(claim, Severity::Warning, "ProvisioningFailed", &message)
                .await;
            return Ok(());
        };
        if class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
            && !self.is_scheduled(claim).await?
        {
            let message = "waiting for first consumer to be created before binding";
            self.binder
                .record(claim, Severity::Normal, "WaitForFirstConsumer", message)
                .await;
            return Ok(());
        }
        self.announce(claim, &class).await?;
        if class.provisioner == DRIVER {
            self.provision(claim, &class).await
        } else {
            Ok(())
        }
    }

    /// Whether it is known where the volume is to be. The scheduler says it once a pod wants the claim.
    async fn is_scheduled(&self, claim: &PersistentVolumeClaim) -> Result<bool, Fault> {
        if claim.annotations().contains_key(SELECTED_NODE) {
            return Ok(true);
        }
        if !self.has_consumer(claim).await? {
            return Ok(false);
        }
        let change = json!({ "metadata": { "annotations": { SELECTED_NODE: NODE_NAME } } });
        let claims = self.claims(&claim.namespace().unwrap_or_default());
        merge(&claims, &claim.name_any(), &change).await?;
        Ok(true)
    }

    async fn has_consumer(&self, claim: &PersistentVolumeClaim) -> Result<bool, Fault> {
        let pods: Api<Pod> = Api::namespaced(
            self.context.client.clone(),
            &claim.namespace().unwrap_or_default(),
        );
        let name = claim.name_any();
        let pods = pods.list(&ListParams::default()).await?;
        Ok(pods
            .iter()
            .any(|pod| claims_of(pod).any(|used| used == name)))
    }

    /// Says who provisions.
    async fn announce(
        &self,
        claim: &PersistentVolumeClaim,
        class: &StorageClass,
    ) -> Result<(), Fault> {
        let by = class.provisioner.as_str();
        if PROVISIONER
            .iter()
            .any(|key| claim.annotations().get(*key).map(String::as_str) != Some(by))
        {
            let [old, new] = PROVISIONER;
            let change = json!({ "metadata": { "annotations": { old: by, new: by } } });
            merge(
                &self.claims(&claim.namespace().unwrap_or_default()),
                &claim.name_any(),
                &change,
            )
            .await?;
        }
        let message = format!(
            "Waiting for a volume to be created either by the external provisioner '{by}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."
        );
        self.binder
            .record(claim, Severity::Normal, "ExternalProvisioning", &message)
            .await;
        Ok(())
    }

    async fn provision(
        &self,
        claim: &PersistentVolumeClaim,
        class: &StorageClass,
    ) -> Result<(), Fault> {
        let (namespace, name) = (claim.namespace().unwrap_or_default(), claim.name_any());
        let message =
            format!("External provisioner is provisioning volume for claim \"{namespace}/{name}\"");
        self.provisioner
            .record(claim, Severity::Normal, "Provisioning", &message)
            .await;
        let volume = format!("pvc-{}", claim.uid().unwrap_or_default());
        let filling = match self.filling(claim).await? {
            Ok(filling) => filling,
            Err(None) => return Ok(()),
            Err(Some(problem)) => {
                self.provisioner
                    .record(claim, Severity::Warning, "ProvisioningFailed", &problem)
                    .await;
                return Ok(());
            }
        };
        let disk = request(claim)
            .map(|(_, bytes)| bytes)
            .filter(|_| is_block(claim));
        let made = match self.fill(&volume, filling, disk).await {
            Err(Fault::Volumes(error)) => {
                let message = format!(
                    "failed to provision volume with StorageClass \"{}\": {error}",
                    class.name_any()
                );
                self.provisioner
                    .record(claim, Severity::Warning, "ProvisioningFailed", &message)
                    .await;
                return Err(error.into());
            }
            other => other?,
        };
        self.enter(claim, class, &volume, made).await
    }

    /// Makes the `PersistentVolume` of a finished directory and binds it.
    async fn enter(
        &self,
        claim: &PersistentVolumeClaim,
        class: &StorageClass,
        volume: &str,
        annotations: Value,
    ) -> Result<(), Fault> {
        let (namespace, name) = (claim.namespace().unwrap_or_default(), claim.name_any());
        // A long copy may have outlived its claim, whose end then looks after the directory.
        let Some(claim) = optional(self.claims(&namespace).get(&name).await)?
            .filter(|now| now.uid() == claim.uid())
        else {
            return Ok(());
        };
        if is_going(&claim) {
            return Ok(());
        }
        let (path, kind, mode) = if is_block(&claim) {
            (self.context.volumes.disk_path(volume), "File", "Block")
        } else {
            let path = self.context.volumes.volume_path(volume);
            (path, "Directory", "Filesystem")
        };
        let spec = claim.spec.as_ref();
        let manifest = json!({
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": { "name": volume, "annotations": { PROVISIONED_BY: DRIVER } },
            "spec": {
                "capacity": { "storage": request(&claim).map(|(text, _)| text) },
                "accessModes": spec.and_then(|spec| spec.access_modes.clone()),
                "persistentVolumeReclaimPolicy": class.reclaim_policy.as_deref().unwrap_or("Delete"),
                "storageClassName": class.name_any(),
                "volumeMode": mode,
                "hostPath": { "path": path, "type": kind },
                "claimRef": {
                    "apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": name, "namespace": namespace,
                    "uid": claim.uid(), "resourceVersion": claim.resource_version(),
                },
            },
        });
        let manifest: PersistentVolume =
            serde_json::from_value(manifest).map_err(kube::Error::SerdeError)?;
        created(
            self.volumes()
                .create(&PostParams::default(), &manifest)
                .await,
        )?;
        let message = format!("Successfully provisioned volume {volume}");
        self.provisioner
            .record(&claim, Severity::Normal, "ProvisioningSucceeded", &message)
            .await;
        let entered = self.volumes().get(volume).await?;
        self.bind(&claim, &entered, annotations).await
    }

    /// Makes the directory, or the file of a disk of that size; gives what is to be said of it in the claim's
    /// annotations.
    async fn fill(
        &self,
        volume: &str,
        filling: Filling,
        disk: Option<u64>,
    ) -> Result<Value, Fault> {
        let volumes = self.context.volumes.clone();
        let name = volume.to_owned();
        let made = tokio::task::spawn_blocking(move || {
            let copied = match (&filling, disk) {
                (Filling::Nothing, None) => volumes.create(&name).map(|_| None),
                (Filling::Nothing, Some(size)) => volumes.create_disk(&name, size).map(|_| None),
                (Filling::Image(image), _) => {
                    volumes.provision(Source::Image(image), &name).map(Some)
                }
                (Filling::Volume(Place::Own(other)), _) => {
                    volumes.provision(Source::Volume(other), &name).map(Some)
                }
                (Filling::Volume(Place::Adopted(folder)), _) => {
                    volumes.provision(Source::Folder(folder), &name).map(Some)
                }
            }?;
            if let Some(size) = disk {
                volumes.grow_disk(&name, size)?;
            }
            Ok::<_, syncline_volumes::Error>(copied)
        })
        .await??;
        Ok(made.map_or_else(|| json!({}), |copied| consistency_annotations(&copied)))
    }

    /// What the claim is to be filled with; `Err(Some(_))` says why that is not to be had now, `Err(None)` that it is
    /// somebody else's business.
    async fn filling(
        &self,
        claim: &PersistentVolumeClaim,
    ) -> Result<Result<Filling, Option<String>>, Fault> {
        let Some(origin) = source::of(claim) else {
            return Ok(Ok(Filling::Nothing));
        };
        let filling = match (origin.group.as_str(), origin.kind.as_str()) {
            ("snapshot.storage.k8s.io", "VolumeSnapshot") => {
                self.filling_from_snapshot(claim, &origin.name).await?
            }
            ("", "PersistentVolumeClaim") => self.filling_from_claim(claim, &origin.name).await?,
            // A populator fills it and brings the volume.
            _ => return Ok(Err(None)),
        };
        Ok(match filling {
            Ok(filling) if self.is_disk(&filling) != is_block(claim) => Err(Some(format!(
                "{} {} has another volumeMode than the claim: give both the same",
                origin.kind, origin.name
            ))),
            other => other,
        })
    }

    /// Whether what fills a volume is a disk.
    fn is_disk(&self, filling: &Filling) -> bool {
        let volumes = &self.context.volumes;
        match filling {
            Filling::Nothing => false,
            Filling::Image(image) => volumes.disk_image_path(image).is_file(),
            Filling::Volume(Place::Own(volume)) => volumes.disk_path(volume).is_file(),
            Filling::Volume(Place::Adopted(folder)) => folder.is_file(),
        }
    }

    async fn filling_from_snapshot(
        &self,
        claim: &PersistentVolumeClaim,
        name: &str,
    ) -> Result<Result<Filling, Option<String>>, Fault> {
        let refused = |why: String| {
            Ok(Err(Some(format!(
                "error getting handle for DataSource Type VolumeSnapshot by Name {name}: {why}"
            ))))
        };
        let namespace = claim.namespace().unwrap_or_default();
        let snapshots: Api<VolumeSnapshot> =
            Api::namespaced(self.context.client.clone(), &namespace);
        let Some(snapshot) = optional(snapshots.get(name).await)? else {
            return refused(format!(
                "error getting snapshot {name} from api server: volumesnapshots.snapshot.storage.k8s.io \"{name}\" not found"
            ));
        };
        if !snapshot.is_ready() || is_going(&snapshot) {
            return refused(format!("snapshot {name} is not Ready"));
        }
        let contents: Api<VolumeSnapshotContent> = Api::all(self.context.client.clone());
        let content = match snapshot.content() {
            Some(content) => optional(contents.get(content).await)?,
            None => None,
        };
        let Some(image) = content.as_ref().and_then(VolumeSnapshotContent::image) else {
            return refused(format!("snapshot {name} has no content"));
        };
        let needed = snapshot
            .status
            .as_ref()
            .and_then(|status| quantity::bytes(status.restore_size.as_deref()?))
            .unwrap_or(0);
        let wanted = request(claim).map_or(0, |(_, bytes)| bytes);
        if wanted < needed {
            return refused(format!(
                "requested volume size {wanted} is less than the size {needed} for the source snapshot {name}"
            ));
        }
        Ok(Ok(Filling::Image(image.to_owned())))
    }

    async fn filling_from_claim(
        &self,
        claim: &PersistentVolumeClaim,
        name: &str,
    ) -> Result<Result<Filling, Option<String>>, Fault> {
        let refused = |why: String| {
            Ok(Err(Some(format!(
                "error getting handle for DataSource Type PersistentVolumeClaim by Name {name}: {why}"
            ))))
        };
        let claims = self.claims(&claim.namespace().unwrap_or_default());
        let Some(origin) = optional(claims.get(name).await)? else {
            return refused(format!(
                "error getting PVC {name} from api server: persistentvolumeclaims \"{name}\" not found"
            ));
        };
        // One that this provisioner holds on to waits for the clone.
        let held = origin
            .finalizers()
            .iter()
            .any(|finalizer| finalizer == CLONING);
        if is_going(&origin) && !held {
            return refused(format!(
                "the PVC DataSource {name} is currently being deleted"
            ));
        }
        let volume = origin
            .spec
            .as_ref()
            .and_then(|spec| spec.volume_name.clone())
            .filter(|_| is_bound(&origin));
        let volume = match volume {
            Some(volume) => optional(self.volumes().get(&volume).await)?,
            None => None,
        };
        let Some(volume) = volume else {
            return refused(format!(
                "the PVC DataSource {name} is not bound to a volume"
            ));
        };
        let wanted = request(claim).map_or(0, |(_, bytes)| bytes);
        let has = storage(
            origin
                .status
                .as_ref()
                .and_then(|status| status.capacity.as_ref()),
        );
        if wanted < has {
            return refused(format!(
                "error, new PVC request must be greater than or equal in size to the specified PVC data source, requested {wanted} but source is {has}"
            ));
        }
        add_finalizers(&claims, &origin, &[CLONING]).await?;
        Ok(Ok(Filling::Volume(place_of(
            &self.context.volumes,
            &volume,
        ))))
    }
}
