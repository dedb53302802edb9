//! A claim without a volume and without a temporary claim: is it time, and what is it to be filled with?

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, TypedObjectReference,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::json;
use syncline_api::{ReplicationDestination, labels};

use super::{Input, Plan, Write, has_label, reason, related, seen};
use crate::kinds::VolumeSnapshot;
use crate::options::Movers;
use crate::plan::{Change, Kind};
use crate::quantity::bytes;
use crate::subject::{Spec, annotation, owners};
use crate::validate::chosen_mover;

/// The annotation by which the scheduler says where the claim's pod is to run.
pub(super) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const MIGRATED_TO: &str = "volume.kubernetes.io/migrated-to";
const SNAPSHOT_GROUP: &str = "snapshot.storage.k8s.io";
/// How soon an image that is named but not there, or not ready, is looked for again.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(15);

/// What a claim wants without an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnMissing {
    Wait,
    Empty,
    Fail,
}

/// Marks the image and makes the temporary claim, or says what it waits for.
pub(super) fn begin(plan: &mut Plan, input: &Input<'_>, claim: &PersistentVolumeClaim) {
    if !may_be_provisioned(plan, input, claim) {
        return;
    }
    let name = super::super::destination_of(claim).unwrap_or_default();
    let Some(destination) = &input.world.destination else {
        // Whose business it is shows in the destination only.
        if input.settings.movers == Movers::All {
            let text = format!(
                "waiting for ReplicationDestination {}/{name}, which dataSourceRef names and which does not exist; create \
                 it, and the claim is filled by itself",
                input.key.namespace
            );
            plan.warn(reason::NO_DESTINATION, text, None);
        }
        return;
    };
    if !is_ours(input, destination) {
        return;
    }
    let failed = annotation(&claim.metadata, labels::POPULATION_FAILED);
    let asked = annotation(&claim.metadata, labels::ON_MISSING_IMAGE);
    if let (Some(why), Some("Fail")) = (failed, asked) {
        return given_up(plan, why);
    }
    let image = destination
        .status
        .as_ref()
        .and_then(|status| status.latest_image.as_ref())
        .filter(|image| !image.name.is_empty());
    let Some(image) = image else {
        return without_image(plan, input, claim, destination);
    };
    if image.kind != "VolumeSnapshot" || image.api_group.as_deref() != Some(SNAPSHOT_GROUP) {
        let text = format!(
            "the latest image of ReplicationDestination {}/{name} is {} {}, and claims are filled from snapshots only; \
             give the destination copyMethod Snapshot, or mount that volume itself",
            input.key.namespace, image.kind, image.name
        );
        plan.warn(reason::ERROR, text, None);
        return;
    }
    fill_from(plan, input, claim, &image.name);
}

/// Whether the destination's mover is one that this operator looks after.
fn is_ours(input: &Input<'_>, destination: &ReplicationDestination) -> bool {
    match &input.settings.movers {
        Movers::All => true,
        Movers::Only(movers) => {
            let spec = Spec::Destination(Box::new(destination.spec.clone()));
            chosen_mover(&spec).is_some_and(|mover| movers.contains(&mover))
        }
    }
}

/// Whether a volume can be made for the claim's class now, and outside of the kubelet's own plugins.
fn may_be_provisioned(plan: &mut Plan, input: &Input<'_>, claim: &PersistentVolumeClaim) -> bool {
    let name = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.storage_class_name.as_deref())
        .unwrap_or_default();
    let Some(class) = &input.world.class else {
        let text = if name.is_empty() {
            "the claim has no StorageClass, and no volume can be made for it; name one in storageClassName, or make one \
             the cluster's default"
                .to_owned()
        } else {
            format!(
                "waiting for StorageClass {name}, which storageClassName names and which does not exist; create it, and \
                 the claim is filled by itself"
            )
        };
        plan.warn(reason::ERROR, text, None);
        return false;
    };
    let metadata = &claim.metadata;
    let in_tree = class.provisioner.starts_with("kubernetes.io/");
    if in_tree && annotation(metadata, MIGRATED_TO).is_none() {
        return false;
    }
    !waits_for_consumer(class) || annotation(metadata, SELECTED_NODE).is_some()
}

fn waits_for_consumer(class: &StorageClass) -> bool {
    class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
}

fn fill_from(plan: &mut Plan, input: &Input<'_>, claim: &PersistentVolumeClaim, name: &str) {
    let image = input.world.image.as_ref();
    let there = image.filter(|image| image.metadata.deletion_timestamp.is_none());
    let Some(image) = there else {
        let text = format!(
            "waiting for VolumeSnapshot {}/{name}, which the ReplicationDestination's status.latestImage names and which \
             is not there any more; its next run makes a new image",
            input.key.namespace
        );
        plan.warn(reason::ERROR, text, None);
        plan.wake = Some(input.now + LOOK_AGAIN);
        return;
    };
    let status = image.status.as_ref();
    if status.and_then(|status| status.ready_to_use) == Some(false) {
        plan.wake = Some(input.now + LOOK_AGAIN);
        return;
    }
    if let Some(text) = too_small(claim, image) {
        plan.warn(reason::ERROR, text, None);
        return;
    }
    // The mark comes first: from here on the image stays.
    let mark = input.key.mark();
    // A temporary claim that somebody deleted would take the image with it once its destination lets go.
    let gone = |owner: &OwnerReference| owner.name == input.key.temporary();
    let haunted = owners(&image.metadata).any(gone);
    if haunted || !has_label(&image.metadata, &mark) {
        let mut fields = json!({ "labels": { mark: input.key.label_value() } });
        if let (true, Some(fields)) = (haunted, fields.as_object_mut()) {
            let living: Vec<_> = owners(&image.metadata)
                .filter(|owner| !gone(owner))
                .collect();
            fields.insert("ownerReferences".to_owned(), json!(living));
        }
        plan.writes.push(Write::Change(Change {
            target: seen(Kind::Snapshot, &image.metadata),
            patch: json!({ "metadata": fields }),
        }));
    }
    let source = TypedObjectReference {
        api_group: Some(SNAPSHOT_GROUP.to_owned()),
        kind: "VolumeSnapshot".to_owned(),
        name: name.to_owned(),
        namespace: None,
    };
    let text = format!(
        "made PersistentVolumeClaim {} from VolumeSnapshot {name}, to fill this claim",
        input.key.temporary()
    );
    let image = related(
        "VolumeSnapshot",
        "snapshot.storage.k8s.io/v1",
        &image.metadata,
    );
    plan.tell(reason::CLAIM_MADE, text, Some(image));
    make(plan, input, claim, Some(source));
}

/// No driver makes a volume that is smaller than its snapshot, and a claim cannot grow before it has its volume.
fn too_small(claim: &PersistentVolumeClaim, image: &VolumeSnapshot) -> Option<String> {
    let needed = image.status.as_ref()?.restore_size.as_ref()?;
    let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    let wanted = requests.get("storage")?;
    (bytes(wanted)? < bytes(needed)?).then(|| {
        format!(
            "the claim asks for {}, and VolumeSnapshot {} needs at least {}; delete the claim and create it anew with as \
             much",
            wanted.0,
            image.metadata.name.as_deref().unwrap_or_default(),
            needed.0
        )
    })
}

fn without_image(
    plan: &mut Plan,
    input: &Input<'_>,
    claim: &PersistentVolumeClaim,
    destination: &ReplicationDestination,
) {
    let name = destination.metadata.name.as_deref().unwrap_or_default();
    let name = format!("ReplicationDestination {}/{name}", input.key.namespace);
    match wish(plan, claim) {
        OnMissing::Wait => {
            let text = format!(
                "waiting for an image: {name} has none yet; the claim is filled by itself after its first successful run"
            );
            plan.warn(reason::NO_IMAGE, text, None);
        }
        OnMissing::Empty => {
            let text = format!(
                "{name} has no image, and {} is Empty: made PersistentVolumeClaim {} without data, to fill this claim",
                labels::ON_MISSING_IMAGE,
                input.key.temporary()
            );
            plan.tell(reason::CLAIM_MADE, text, None);
            make(plan, input, claim, None);
        }
        OnMissing::Fail => {
            let why = format!("{name} has no image");
            plan.writes.push(Write::Change(Change {
                target: seen(Kind::Claim, &claim.metadata),
                patch: json!({ "metadata": { "annotations": { labels::POPULATION_FAILED: why } } }),
            }));
            given_up(plan, &why);
        }
    }
}

fn given_up(plan: &mut Plan, why: &str) {
    let text = format!(
        "{why}, and {} is Fail: the claim is not filled; delete it and create it anew once there is an image, or remove \
         its annotation {}",
        labels::ON_MISSING_IMAGE,
        labels::POPULATION_FAILED
    );
    plan.warn(reason::ERROR, text, None);
}

fn wish(plan: &mut Plan, claim: &PersistentVolumeClaim) -> OnMissing {
    match annotation(&claim.metadata, labels::ON_MISSING_IMAGE) {
        None | Some("Wait") => OnMissing::Wait,
        Some("Empty") => OnMissing::Empty,
        Some("Fail") => OnMissing::Fail,
        Some(other) => {
            let text = format!(
                "annotation {} is {other:?}, which is none of Wait, Empty and Fail; it is taken for Wait",
                labels::ON_MISSING_IMAGE
            );
            plan.warn(reason::ERROR, text, None);
            OnMissing::Wait
        }
    }
}

/// Makes the temporary claim: as the user's, but with a data source that the class's driver knows, or with none.
fn make(
    plan: &mut Plan,
    input: &Input<'_>,
    claim: &PersistentVolumeClaim,
    source: Option<TypedObjectReference>,
) {
    let key = input.key;
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "PersistentVolumeClaim".to_owned(),
        name: key.name.clone(),
        uid: key.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    let labels = [
        (labels::CREATED_BY, labels::CREATED_BY_VOLSYNC),
        (labels::POPULATOR_PVC_FOR, key.label_value()),
    ];
    let own = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    let node = annotation(&claim.metadata, SELECTED_NODE);
    let wanted = claim.spec.clone().unwrap_or_default();
    plan.writes
        .push(Write::Create(Box::new(PersistentVolumeClaim {
            metadata: ObjectMeta {
                name: Some(key.temporary()),
                namespace: Some(key.namespace.clone()),
                labels: Some(labels.into_iter().map(own).collect()),
                annotations: node.map(|node| [own((SELECTED_NODE, node))].into()),
                owner_references: Some(vec![owner]),
                ..ObjectMeta::default()
            },
            spec: Some(PersistentVolumeClaimSpec {
                data_source: None,
                data_source_ref: source,
                volume_name: None,
                ..wanted
            }),
            status: None,
        })));
}
