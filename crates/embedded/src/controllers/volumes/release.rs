//! The end of claims and volumes.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, Preconditions};
use serde_json::json;

use super::{
    CLAIM_PROTECTION, CLONING, Controller, Fault, VOLUME_PROTECTION, claims_of, is_bound, is_own,
    phase, source,
};
use crate::controllers::objects::{is_going, merge_status, optional, remove_finalizers};

impl Controller {
    /// Takes the protection of a clone's source away when no clone is being made any more.
    pub(super) async fn free_source(&self, claim: &PersistentVolumeClaim) -> Result<(), Fault> {
        if !claim
            .finalizers()
            .iter()
            .any(|finalizer| finalizer == CLONING)
        {
            return Ok(());
        }
        let (api, name) = (
            self.claims(&claim.namespace().unwrap_or_default()),
            claim.name_any(),
        );
        let clones = api.list(&ListParams::default()).await?;
        let in_use = clones.iter().any(|other| {
            source::is(other, "PersistentVolumeClaim", &name)
                && !is_bound(other)
                && !is_going(other)
        });
        if !in_use {
            remove_finalizers(&api, claim, &[CLONING]).await?;
        }
        Ok(())
    }

    /// A deleted claim stays while a pod uses it, even one that has finished.
    pub(super) async fn release_claim(&self, claim: &PersistentVolumeClaim) -> Result<(), Fault> {
        let (namespace, name) = (claim.namespace().unwrap_or_default(), claim.name_any());
        if !claim
            .finalizers()
            .iter()
            .any(|finalizer| finalizer == CLAIM_PROTECTION)
        {
            return Ok(());
        }
        let pods: Api<Pod> = Api::namespaced(self.context.client.clone(), &namespace);
        let pods = pods.list(&ListParams::default()).await?;
        let in_use = pods.iter().any(|pod| {
            let placed = pod
                .spec
                .as_ref()
                .is_some_and(|spec| spec.node_name.is_some());
            placed && claims_of(pod).any(|used| used == name)
        });
        if in_use {
            return Ok(());
        }
        let volume = format!("pvc-{}", claim.uid().unwrap_or_default());
        if phase(claim) == "Pending" && optional(self.volumes().get(&volume).await)?.is_none() {
            // Whatever was being made for it.
            let volumes = self.context.volumes.clone();
            tokio::task::spawn_blocking(move || volumes.delete(&volume)).await??;
        }
        Ok(remove_finalizers(&self.claims(&namespace), claim, &[CLAIM_PROTECTION]).await?)
    }

    /// A volume: available, bound, released, or ending.
    pub(super) async fn volume(&self, name: &str) -> Result<(), Fault> {
        let Some(volume) = optional(self.volumes().get(name).await)? else {
            return Ok(());
        };
        let claim = self.holder(&volume).await?;
        if is_going(&volume) {
            if claim.is_some_and(|claim| is_bound(&claim)) {
                return Ok(());
            }
            return self.end(&volume).await;
        }
        let reserved = volume
            .spec
            .as_ref()
            .and_then(|spec| spec.claim_ref.as_ref());
        match reserved {
            // Bound by the claim's side.
            Some(_) if claim.is_some() => Ok(()),
            Some(reference) if reference.uid.is_some() => {
                self.set_phase(&volume, "Released").await?;
                self.reclaim(&volume).await
            }
            _ => self.set_phase(&volume, "Available").await,
        }
    }

    /// The claim that the volume is bound to or reserved for, if it still is that one.
    async fn holder(
        &self,
        volume: &PersistentVolume,
    ) -> Result<Option<PersistentVolumeClaim>, Fault> {
        let Some(reference) = volume
            .spec
            .as_ref()
            .and_then(|spec| spec.claim_ref.as_ref())
        else {
            return Ok(None);
        };
        let claims = self.claims(reference.namespace.as_deref().unwrap_or_default());
        let claim = optional(
            claims
                .get(reference.name.as_deref().unwrap_or_default())
                .await,
        )?;
        Ok(claim.filter(|claim| reference.uid.is_some() && reference.uid == claim.uid()))
    }

    async fn set_phase(&self, volume: &PersistentVolume, phase: &str) -> Result<(), Fault> {
        if volume
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref())
            != Some(phase)
        {
            // The version keeps an old look from undoing a binding made meanwhile.
            let metadata = json!({ "resourceVersion": volume.resource_version() });
            let status = json!({ "metadata": metadata, "status": { "phase": phase } });
            merge_status(&self.volumes(), &volume.name_any(), &status).await?;
        }
        Ok(())
    }

    fn deletes_data(volume: &PersistentVolume) -> bool {
        let policy = volume
            .spec
            .as_ref()
            .and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
        is_own(volume) && policy == Some("Delete")
    }

    /// Deletes a released volume if its policy says so; what is retained waits for its owner.
    async fn reclaim(&self, volume: &PersistentVolume) -> Result<(), Fault> {
        if !Self::deletes_data(volume) {
            return Ok(());
        }
        let only_this = Preconditions {
            uid: volume.uid(),
            resource_version: None,
        };
        let how = DeleteParams {
            preconditions: Some(only_this),
            ..DeleteParams::default()
        };
        optional(self.volumes().delete(&volume.name_any(), &how).await)?;
        Ok(())
    }

    /// The last step of a deleted volume: its data, if they are ours to delete, then its protection.
    async fn end(&self, volume: &PersistentVolume) -> Result<(), Fault> {
        if Self::deletes_data(volume) {
            let (volumes, name) = (self.context.volumes.clone(), volume.name_any());
            tokio::task::spawn_blocking(move || volumes.delete(&name)).await??;
        }
        Ok(remove_finalizers(&self.volumes(), volume, &[VOLUME_PROTECTION]).await?)
    }
}
