//! Cleaning up after a run: temporary objects and images that have a successor.
//!
//! Invariant: only objects that this resource controls are deleted. Invariant: neither the user's claim nor what
//! `status.latestImage` names is ever among them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use syncline_api::labels;
use syncline_api::names::Side;

use super::draft::{Draft, existing, same};
use super::images::{CLAIM, SNAPSHOT};
use super::{Change, Input, Kind, trigger};
use crate::kinds::VolumeSnapshot;
use crate::subject::{annotation, has_label, owners};

/// Which temporary objects go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// The run is over: all of them.
    Success,
    /// The run failed: the Job and a source's copies, which may be what was wrong, unless the user gave leave for no more
    /// than these. A destination's volume stays, for
    /// what has arrived need not be sent again.
    Failure,
}

/// Plans what is to go; returns whether anything was left to do.
pub(super) fn sweep(draft: &mut Draft<'_>, input: &Input<'_>, after: After) -> bool {
    let before = (draft.plan.delete.len(), draft.plan.changes.len());
    let world = input.world;
    let source = input.subject.key.side == Side::Source;
    let kept = |metadata: &ObjectMeta| {
        source && after == After::Failure && trigger::keeps(input, metadata)
    };
    if source || after == After::Success {
        for claim in &world.labelled.claims {
            if ours(input, &claim.metadata)
                && !kept(&claim.metadata)
                && !is_image(input, CLAIM, &claim.metadata)
                && !is_given(input, &claim.metadata)
            {
                draft.delete(Kind::Claim, &claim.metadata);
            }
        }
        for snapshot in world
            .labelled
            .snapshots
            .iter()
            .filter(|snapshot| !kept(&snapshot.metadata))
        {
            drop_snapshot(draft, input, snapshot);
        }
    }
    if after == After::Success && !source {
        drop_old_images(draft, input);
        forget_snapshot_name(draft, input);
    }
    // The Job goes last: as long as it is there, what it tells is acted on again after a crash, and nothing of its run is
    // taken for a part of the next.
    for job in world.labelled.jobs.iter().chain(&world.job) {
        if ours(input, &job.metadata) {
            draft.delete(Kind::Job, &job.metadata);
        }
    }
    before != (draft.plan.delete.len(), draft.plan.changes.len())
}

/// Lets go of the snapshots that the user marked as to be kept, so that they survive the resource too. The one that is
/// still to become the image is ours until then.
pub(super) fn relinquish_marked(draft: &mut Draft<'_>, input: &Input<'_>) {
    let pending = input
        .world
        .snapshot
        .as_ref()
        .filter(|_| input.subject.state.last_sync_start_time.is_some());
    for snapshot in &input.world.images {
        let metadata = &snapshot.metadata;
        let marked = metadata
            .labels
            .as_ref()
            .is_some_and(|all| all.contains_key(labels::DO_NOT_DELETE));
        let pending = pending.is_some_and(|pending| pending.metadata.uid == metadata.uid);
        if marked && !pending && owners(metadata).any(|owner| owner.uid == input.subject.uid) {
            relinquish(draft, input, snapshot, true);
        }
    }
}

fn ours(input: &Input<'_>, metadata: &ObjectMeta) -> bool {
    input.subject.owns(metadata) && has_label(metadata, labels::CLEANUP, &input.subject.uid)
}

fn is_image(input: &Input<'_>, kind: &str, metadata: &ObjectMeta) -> bool {
    let image = input.subject.state.latest_image.as_ref();
    image.is_some_and(|image| image.kind == kind && Some(&image.name) == metadata.name.as_ref())
}

fn is_given(input: &Input<'_>, metadata: &ObjectMeta) -> bool {
    input
        .world
        .given_claim
        .as_ref()
        .is_some_and(|given| given.metadata.name == metadata.name)
}

/// Images that have a successor. Where the successor is the volume itself, they stay: it changes with the next run.
fn drop_old_images(draft: &mut Draft<'_>, input: &Input<'_>) {
    let image = input.subject.state.latest_image.as_ref();
    if image.is_none_or(|image| image.kind != SNAPSHOT) {
        return;
    }
    for snapshot in &input.world.images {
        if input.subject.owns(&snapshot.metadata) {
            drop_snapshot(draft, input, snapshot);
        }
    }
}

/// Deletes a snapshot that this resource controls, unless it is the latest image, marked as to be kept, or in use.
fn drop_snapshot(draft: &mut Draft<'_>, input: &Input<'_>, snapshot: &VolumeSnapshot) {
    let metadata = &snapshot.metadata;
    if !input.subject.owns(metadata) || is_image(input, SNAPSHOT, metadata) {
        return;
    }
    let has = |wanted: &dyn Fn(&str) -> bool| {
        metadata
            .labels
            .iter()
            .flatten()
            .any(|(label, _)| wanted(label))
    };
    if has(&|label| label == labels::DO_NOT_DELETE) {
        relinquish(draft, input, snapshot, true);
    } else if has(&|label| label.starts_with(labels::POPULATING_PREFIX))
        || owners(metadata).count() > 1
    {
        // A volume is being made from it; whoever does that deletes it when it is done.
        relinquish(draft, input, snapshot, false);
    } else {
        draft.delete(Kind::Snapshot, metadata);
    }
}

fn relinquish(
    draft: &mut Draft<'_>,
    input: &Input<'_>,
    snapshot: &VolumeSnapshot,
    labels_too: bool,
) {
    let metadata = &snapshot.metadata;
    let target = existing(Kind::Snapshot, metadata);
    if draft
        .plan
        .changes
        .iter()
        .any(|change| change.target == target)
    {
        return;
    }
    let others: Vec<_> = owners(metadata)
        .filter(|owner| owner.uid != input.subject.uid)
        .collect();
    let changed = if labels_too {
        json!({ labels::CLEANUP: null, labels::CREATED_BY: null })
    } else {
        // Whoever uses it may see by this label that nobody wants it any more.
        json!({ labels::CLEANUP: input.subject.uid })
    };
    draft.plan.changes.push(Change {
        target,
        patch: json!({ "metadata": { "ownerReferences": others, "labels": changed } }),
    });
}

/// Lets go of the image that a run began to make and whose Job is gone: it has not what the next run receives, and must
/// not become that run's image.
pub(super) fn drop_unfinished_image(draft: &mut Draft<'_>, input: &Input<'_>) {
    forget_snapshot_name(draft, input);
    if let Some(snapshot) = &input.world.snapshot {
        drop_snapshot(draft, input, snapshot);
    }
}

/// Takes the name of the image in the making off the volume: the next run's has another.
pub(super) fn forget_snapshot_name(draft: &mut Draft<'_>, input: &Input<'_>) {
    for claim in [
        &input.world.given_claim,
        &input.world.own_claim,
        &input.world.job_claim,
    ]
    .into_iter()
    .flatten()
    {
        if annotation(&claim.metadata, labels::SNAPSHOT_NAME).is_some()
            && claim.metadata.deletion_timestamp.is_none()
        {
            draft.plan.changes.push(Change {
                target: same(Kind::Claim, &claim.metadata),
                patch: json!({ "metadata": { "annotations": { labels::SNAPSHOT_NAME: null } } }),
            });
        }
    }
}
