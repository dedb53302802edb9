//! The end: the claim has its volume, or is no more.

use serde_json::{Value, json};
use syncline_api::labels;

use super::{Input, Plan, Write, has_label, reason, seen};
use crate::kinds::VolumeSnapshot;
use crate::plan::{Change, Kind};
use crate::populator::{phase_of, volume_of};
use crate::subject::owners;

/// The claim has a volume: what filled it goes.
pub(super) fn finish(plan: &mut Plan, input: &Input<'_>, volume: &str) {
    let temporary = input
        .world
        .temporary
        .as_ref()
        .filter(|temporary| input.key.controls(&temporary.metadata));
    let filled = temporary.is_some_and(|temporary| volume_of(temporary) == Some(volume));
    if filled && temporary.is_some_and(|temporary| phase_of(temporary) != "Lost") {
        // The volume is moved, and the cluster has not noticed yet.
        return;
    }
    if filled {
        let text = format!("the claim is filled: it has PersistentVolume {volume}");
        plan.tell(reason::FINISHED, text, None);
        release_all(plan, input);
    }
    clear(plan, input);
}

/// The claim is gone or going.
pub(super) fn give_up(plan: &mut Plan, input: &Input<'_>) {
    clear(plan, input);
}

/// The temporary claim goes first: as long as it may still be filled, its image stays marked.
fn clear(plan: &mut Plan, input: &Input<'_>) {
    let temporary = input
        .world
        .temporary
        .as_ref()
        .filter(|temporary| input.key.controls(&temporary.metadata));
    match temporary {
        None => release_all(plan, input),
        Some(temporary) if temporary.metadata.deletion_timestamp.is_none() => plan
            .writes
            .push(Write::Delete(seen(Kind::Claim, &temporary.metadata))),
        Some(_) => {}
    }
}

fn release_all(plan: &mut Plan, input: &Input<'_>) {
    for snapshot in &input.world.marked {
        release(plan, input, snapshot);
    }
}

/// Takes the mark off an image. One that its destination let go of meanwhile goes with the temporary claim, or at once
/// when that never came to own it.
pub(super) fn release(plan: &mut Plan, input: &Input<'_>, snapshot: &VolumeSnapshot) {
    let metadata = &snapshot.metadata;
    let target = seen(Kind::Snapshot, metadata);
    let kept = has_label(metadata, labels::DO_NOT_DELETE);
    if metadata.deletion_timestamp.is_some() {
        return;
    }
    let others_use_it = metadata.labels.iter().flatten().any(|(label, _)| {
        label.starts_with(labels::POPULATING_PREFIX) && *label != input.key.mark()
    });
    let orphan = owners(metadata).next().is_none() && has_label(metadata, labels::CLEANUP);
    if orphan && !kept && !others_use_it {
        plan.writes.push(Write::Delete(target));
        return;
    }
    let mut fields = json!({ "labels": { input.key.mark(): null } });
    let temporary = input
        .world
        .temporary
        .as_ref()
        .and_then(|temporary| temporary.metadata.uid.as_ref());
    let held = owners(metadata).any(|owner| Some(&owner.uid) == temporary);
    if kept
        && held
        && let Value::Object(fields) = &mut fields
    {
        let others: Vec<_> = owners(metadata)
            .filter(|owner| Some(&owner.uid) != temporary)
            .collect();
        fields.insert("ownerReferences".to_owned(), json!(others));
    }
    plan.writes.push(Write::Change(Change {
        target,
        patch: json!({ "metadata": fields }),
    }));
}
