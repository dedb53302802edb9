//! Bringing a claim and a volume together.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::ResourceExt as _;
use kube::api::ListParams;
use serde_json::{Value, json};

use super::{
    ADOPTED, BIND_COMPLETED, BOUND_BY_CONTROLLER, Controller, Fault, PROVISIONED_BY, phase,
    request, storage,
};
use crate::controllers::objects::{is_going, merge, merge_status, optional};
use crate::node::events::Severity;

/// Whether the volume may be this claim's: it refers to it, or to none.
fn is_free_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    volume
        .spec
        .as_ref()
        .and_then(|spec| spec.claim_ref.as_ref())
        .is_none_or(|reference| {
            reference.name.as_deref() == Some(&claim.name_any())
                && reference.namespace == claim.namespace()
                && reference
                    .uid
                    .as_ref()
                    .is_none_or(|uid| Some(uid) == claim.uid().as_ref())
        })
}

pub(super) fn is_reserved_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    volume
        .spec
        .as_ref()
        .is_some_and(|spec| spec.claim_ref.is_some())
        && is_free_for(volume, claim)
}

/// Whether a volume that nobody has reserved suits a claim.
fn suits(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(has), Some(wants)) = (&volume.spec, &claim.spec) else {
        return false;
    };
    let class = |name: &Option<String>| name.clone().unwrap_or_default();
    let modes = has.access_modes.as_deref().unwrap_or_default();
    let labels_fit = wants.selector.as_ref().is_none_or(|selector| {
        selector
            .match_labels
            .iter()
            .flatten()
            .all(|(key, value)| volume.labels().get(key) == Some(value))
            && selector
                .match_expressions
                .as_ref()
                .is_none_or(Vec::is_empty)
    });
    // Somebody else's folder goes to whom it was meant for only.
    !volume.annotations().contains_key(ADOPTED)
        && !volume.annotations().contains_key(PROVISIONED_BY)
        && class(&has.storage_class_name) == class(&wants.storage_class_name)
        && has.volume_mode == wants.volume_mode
        && wants
            .access_modes
            .iter()
            .flatten()
            .all(|mode| modes.contains(mode))
        && storage(has.capacity.as_ref()) >= request(claim).map_or(0, |(_, bytes)| bytes)
        && labels_fit
}

impl Controller {
    /// A claim that names its volume.
    pub(super) async fn bind_named(
        &self,
        claim: &PersistentVolumeClaim,
        volume: &str,
    ) -> Result<(), Fault> {
        let Some(found) = optional(self.volumes().get(volume).await)? else {
            return Ok(());
        };
        if !is_free_for(&found, claim) {
            if phase(claim) == "Lost" {
                return Ok(());
            }
            let message = format!("volume \"{volume}\" already bound to a different claim.");
            self.binder
                .record(claim, Severity::Warning, "FailedBinding", &message)
                .await;
            return Ok(());
        }
        if is_going(&found) {
            return Ok(());
        }
        self.bind(claim, &found, json!({})).await
    }

    /// A volume made by hand that suits the claim: the smallest that was reserved for it, else the smallest free one.
    pub(super) async fn existing_volume(
        &self,
        claim: &PersistentVolumeClaim,
    ) -> Result<Option<PersistentVolume>, Fault> {
        let all = self.volumes().list(&ListParams::default()).await?;
        let usable: Vec<&PersistentVolume> =
            all.iter().filter(|volume| !is_going(*volume)).collect();
        let smallest = |volumes: Vec<&PersistentVolume>| {
            let size = |volume: &&&PersistentVolume| {
                storage(volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()))
            };
            volumes
                .iter()
                .min_by_key(size)
                .map(|volume| (*volume).clone())
        };
        let reserved = usable
            .iter()
            .copied()
            .filter(|volume| is_reserved_for(volume, claim))
            .collect();
        if let Some(volume) = smallest(reserved) {
            return Ok(Some(volume));
        }
        let free = |volume: &&PersistentVolume| {
            volume
                .spec
                .as_ref()
                .is_some_and(|spec| spec.claim_ref.is_none())
                && suits(volume, claim)
        };
        Ok(smallest(usable.iter().copied().filter(free).collect()))
    }

    /// Binds both to each other. `annotations` are written to the claim together with the binding.
    pub(super) async fn bind(
        &self,
        claim: &PersistentVolumeClaim,
        volume: &PersistentVolume,
        annotations: Value,
    ) -> Result<(), Fault> {
        let volume_name = volume.name_any();
        let (namespace, name) = (claim.namespace().unwrap_or_default(), claim.name_any());
        let reference = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": name, "namespace": namespace,
            "uid": claim.uid(), "resourceVersion": claim.resource_version(),
        });
        let held = volume
            .spec
            .as_ref()
            .and_then(|spec| spec.claim_ref.as_ref());
        if held.is_none_or(|held| held.uid.is_none()) {
            // The version makes a second claim that looked at the same moment lose.
            let change = json!({
                "metadata": { "resourceVersion": volume.resource_version() },
                "spec": { "claimRef": reference },
            });
            merge(&self.volumes(), &volume_name, &change).await?;
        }
        merge_status(
            &self.volumes(),
            &volume_name,
            &json!({ "status": { "phase": "Bound" } }),
        )
        .await?;
        let mut wanted = annotations;
        let named = claim
            .spec
            .as_ref()
            .is_some_and(|spec| spec.volume_name.is_some());
        if let Some(all) = wanted.as_object_mut() {
            all.insert(BIND_COMPLETED.to_owned(), json!("yes"));
            if !named {
                all.insert(BOUND_BY_CONTROLLER.to_owned(), json!("yes"));
            }
        }
        let api = self.claims(&namespace);
        let change =
            json!({ "metadata": { "annotations": wanted }, "spec": { "volumeName": volume_name } });
        merge(&api, &name, &change).await?;
        let spec = volume.spec.as_ref();
        let status = json!({ "status": {
            "phase": "Bound",
            "accessModes": spec.and_then(|spec| spec.access_modes.clone()),
            "capacity": spec.and_then(|spec| spec.capacity.clone()),
        }});
        merge_status(&api, &name, &status).await?;
        Ok(())
    }
}
