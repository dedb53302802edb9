//! A claim whose temporary claim exists: it gets a volume, and the volume is moved over.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use syncline_api::labels;

use super::begin::SELECTED_NODE;
use super::end::release;
use super::{Input, Plan, Write, has_label, reason, related, seen};
use crate::plan::{Change, Kind};
use crate::populator::phase_of;
use crate::subject::{annotation, owners};

/// How long the temporary claim may be without a volume before that is said.
const NOT_BOUND_AFTER: SignedDuration = SignedDuration::from_secs(120);

/// The next step towards the volume.
pub(super) fn go_on(
    plan: &mut Plan,
    input: &Input<'_>,
    claim: &PersistentVolumeClaim,
    temporary: &PersistentVolumeClaim,
) {
    let name = input.key.temporary();
    if !input.key.controls(&temporary.metadata) {
        let text = format!(
            "PersistentVolumeClaim {}/{name} exists and does not belong to this claim, so it is left alone; rename or \
             delete it",
            input.key.namespace
        );
        plan.warn(reason::ERROR, text, None);
        return;
    }
    if temporary.metadata.deletion_timestamp.is_some() {
        return;
    }
    hold_image(plan, input, temporary);
    let about = related("PersistentVolumeClaim", "v1", &temporary.metadata);
    match (phase_of(temporary), &input.world.volume) {
        ("Bound", Some(volume)) => match holder(volume) {
            // The claim's own controller binds it now.
            Some(uid) if uid == input.key.uid => {}
            Some(uid) if Some(uid) == temporary.metadata.uid.as_deref() => {
                plan.writes.push(hand_over(input, temporary, volume));
            }
            _ => {
                let text = format!(
                    "the volume of PersistentVolumeClaim {}/{name} is reserved for another claim; delete {name}, and \
                     another volume is made",
                    input.key.namespace
                );
                plan.warn(reason::ERROR, text, Some(about));
            }
        },
        ("Lost", volume) if volume.as_ref().and_then(holder) != Some(input.key.uid.as_str()) => {
            let text = format!(
                "PersistentVolumeClaim {}/{name} lost its volume before this claim had it; another volume is made",
                input.key.namespace
            );
            plan.warn(reason::ERROR, text, Some(about));
            plan.writes
                .push(Write::Delete(seen(Kind::Claim, &temporary.metadata)));
        }
        ("Pending", _) if has_lost_its_image(input, temporary) => {
            let text = format!(
                "the image that PersistentVolumeClaim {}/{name} was made from is gone; it is made from the latest one",
                input.key.namespace
            );
            plan.warn(reason::ERROR, text, Some(about));
            plan.writes
                .push(Write::Delete(seen(Kind::Claim, &temporary.metadata)));
        }
        ("Pending", _) => {
            follow_node(plan, claim, temporary);
            say_when_late(plan, input, temporary);
        }
        _ => {}
    }
}

/// Makes the temporary claim an owner of the image that it is filled from, so that the image goes with it if nobody else
/// wants it any more; lets go of images that were marked before another was chosen.
fn hold_image(plan: &mut Plan, input: &Input<'_>, temporary: &PersistentVolumeClaim) {
    let source = image_of(temporary);
    for snapshot in &input.world.marked {
        let metadata = &snapshot.metadata;
        if metadata.name.as_deref() != source {
            release(plan, input, snapshot);
            continue;
        }
        let held =
            owners(metadata).any(|owner| Some(&owner.uid) == temporary.metadata.uid.as_ref());
        if held
            || has_label(metadata, labels::DO_NOT_DELETE)
            || metadata.deletion_timestamp.is_some()
        {
            continue;
        }
        let mut all: Vec<_> = owners(metadata).map(|owner| json!(owner)).collect();
        all.push(json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "name": temporary.metadata.name, "uid": temporary.metadata.uid,
        }));
        plan.writes.push(Write::Change(Change {
            target: seen(Kind::Snapshot, metadata),
            patch: json!({ "metadata": { "ownerReferences": all } }),
        }));
    }
}

/// The snapshot that the temporary claim is filled from.
fn image_of(temporary: &PersistentVolumeClaim) -> Option<&str> {
    let source = temporary.spec.as_ref()?.data_source_ref.as_ref()?;
    (source.kind == "VolumeSnapshot").then_some(source.name.as_str())
}

/// Whether there is nothing left to fill the temporary claim from: its image was marked before it was made.
fn has_lost_its_image(input: &Input<'_>, temporary: &PersistentVolumeClaim) -> bool {
    let is = |name: &str| {
        let mut marked = input.world.marked.iter();
        marked.any(|snapshot| snapshot.metadata.name.as_deref() == Some(name))
    };
    image_of(temporary).is_some_and(|name| !is(name))
}

/// The uid of the claim that a volume is for.
fn holder(volume: &PersistentVolume) -> Option<&str> {
    volume.spec.as_ref()?.claim_ref.as_ref()?.uid.as_deref()
}

/// The volume refers to the user's claim from now on: that one is bound to it, and the temporary one is Lost.
fn hand_over(
    input: &Input<'_>,
    temporary: &PersistentVolumeClaim,
    volume: &PersistentVolume,
) -> Write {
    let ObjectMeta {
        uid,
        resource_version,
        ..
    } = &volume.metadata;
    let from = image_of(temporary).map(|image| format!("{}/{image}", input.key.namespace));
    let version = input
        .world
        .claim
        .as_ref()
        .and_then(|claim| claim.metadata.resource_version.clone());
    Write::Move {
        volume: volume.metadata.name.clone().unwrap_or_default(),
        patch: json!({
            "metadata": {
                "uid": uid,
                "resourceVersion": resource_version,
                "annotations": { labels::POPULATED_FROM: from },
            },
            "spec": { "claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": input.key.namespace,
                "name": input.key.name, "uid": input.key.uid, "resourceVersion": version,
            }},
        }),
    }
}

/// A scheduler that changed its mind chose another node for the claim; its volume is to be made there.
fn follow_node(plan: &mut Plan, claim: &PersistentVolumeClaim, temporary: &PersistentVolumeClaim) {
    let chosen = annotation(&claim.metadata, SELECTED_NODE);
    let present = annotation(&temporary.metadata, SELECTED_NODE);
    if let (Some(chosen), Some(present)) = (chosen, present)
        && chosen != present
    {
        plan.writes.push(Write::Change(Change {
            target: seen(Kind::Claim, &temporary.metadata),
            patch: json!({ "metadata": { "annotations": { SELECTED_NODE: chosen } } }),
        }));
    }
}

fn say_when_late(plan: &mut Plan, input: &Input<'_>, temporary: &PersistentVolumeClaim) {
    let Some(created) = &temporary.metadata.creation_timestamp else {
        return;
    };
    let late = created.0 + NOT_BOUND_AFTER;
    if input.now < late {
        plan.wake = Some(late);
        return;
    }
    let name = input.key.temporary();
    let text = format!(
        "PersistentVolumeClaim {}/{name}, which is to fill this claim, has no volume yet; kubectl describe pvc {name} tells \
         why",
        input.key.namespace
    );
    let about = related("PersistentVolumeClaim", "v1", &temporary.metadata);
    plan.warn(reason::NOT_BOUND, text, Some(about));
}
