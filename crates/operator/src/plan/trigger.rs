//! Copies that wait for their user. With `use-copy-trigger` on the source's claim no copy of it is made before the user
//! gives `copy-trigger` a new value; annotations on the claim say how far that has come, so that whoever froze an
//! application knows when to let it go on.
//!
//! ```text
//!   WaitingForTrigger ──new value──► InProgress ──copy ready──► Completed ──next run──► WaitingForTrigger
//! ```
//!
//! The copy remembers the value that it was made for: the claim may have a newer one when the copy is ready, and that is
//! for the next.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};
use syncline_api::labels::{
    COPY_TRIGGER, LATEST_COPY_STATUS, LATEST_COPY_TRIGGER, LATEST_COPY_TRIGGER_WAITING_SINCE,
    MADE_FOR_TRIGGER, USE_COPY_TRIGGER,
};
use syncline_api::report::MoverResult;
use syncline_api::status::MoverStatus;

use super::draft::{Draft, reference, same};
use super::{Change, Input, Kind};
use crate::subject::annotation;

/// How long a copy may wait before an event and the mover's status say so.
const PATIENCE: SignedDuration = SignedDuration::from_mins(10);
/// The action of all events here.
const ACTION: &str = "CreateSrcCopyUsingCopyTrigger";
/// Values of [`LATEST_COPY_STATUS`].
const WAITING: &str = "WaitingForTrigger";
const IN_PROGRESS: &str = "InProgress";
const COMPLETED: &str = "Completed";

/// Whether a copy may be made now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// The user is still to say so.
    NotYet,
    /// It may, for this value of the trigger if the claim uses one.
    Given(Option<String>),
}

fn uses_trigger(claim: &PersistentVolumeClaim) -> bool {
    annotation(&claim.metadata, USE_COPY_TRIGGER).is_some()
}

fn value<'a>(claim: &'a PersistentVolumeClaim, name: &str) -> Option<&'a str> {
    annotation(&claim.metadata, name).filter(|text| !text.is_empty())
}

/// Asks for leave to copy a claim.
pub(super) fn ask(
    draft: &mut Draft<'_>,
    input: &Input<'_>,
    origin: &PersistentVolumeClaim,
) -> Leave {
    if !uses_trigger(origin) {
        return Leave::Given(None);
    }
    let trigger = value(origin, COPY_TRIGGER);
    let Some(trigger) = trigger.filter(|new| value(origin, LATEST_COPY_TRIGGER) != Some(*new))
    else {
        wait(draft, input, origin);
        return Leave::NotYet;
    };
    if value(origin, LATEST_COPY_STATUS) != Some(IN_PROGRESS) {
        let said =
            json!({ LATEST_COPY_STATUS: IN_PROGRESS, LATEST_COPY_TRIGGER_WAITING_SINCE: null });
        annotate(draft, origin, &said);
        note(
            draft,
            origin,
            "SrcPVCCopyTriggerReceived",
            format!("Copy trigger {trigger:?} received; the copy is being made"),
        );
    }
    Leave::Given(Some(trigger.to_owned()))
}

fn wait(draft: &mut Draft<'_>, input: &Input<'_>, origin: &PersistentVolumeClaim) {
    draft.plan.waits_for_user = true;
    let name = origin.metadata.name.as_deref().unwrap_or_default();
    let since: Option<Timestamp> = value(origin, LATEST_COPY_TRIGGER_WAITING_SINCE)
        .filter(|_| value(origin, LATEST_COPY_STATUS) == Some(WAITING))
        .and_then(|text| text.parse().ok());
    note(
        draft,
        origin,
        "SrcPVCWaitingForCopyTrigger",
        format!(
            "Waiting for a new value of the annotation {COPY_TRIGGER} on PersistentVolumeClaim {name}"
        ),
    );
    let Some(since) = since else {
        let now = input.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let said = json!({ LATEST_COPY_STATUS: WAITING, LATEST_COPY_TRIGGER_WAITING_SINCE: now });
        annotate(draft, origin, &said);
        draft.wake(input.now() + PATIENCE);
        return;
    };
    let late = since + PATIENCE;
    if input.now() < late {
        draft.wake(late);
        return;
    }
    let text = format!(
        "timed out waiting for a copy trigger: no new value of the annotation {COPY_TRIGGER} on PersistentVolumeClaim {name} \
         within 10 minutes; it is waited for further"
    );
    let related = Some(reference("v1", "PersistentVolumeClaim", &origin.metadata));
    draft.warn(
        "SrcPVCTimeoutWaitingForCopyTrigger",
        ACTION,
        text.clone(),
        related,
    );
    draft.state.latest_mover_status = Some(MoverStatus {
        result: Some(MoverResult::Failed),
        logs: Some(text),
    });
}

/// Says that the copy is made, once it is: a snapshot when it is ready, a clone when it is bound.
pub(super) fn complete(draft: &mut Draft<'_>, input: &Input<'_>) {
    let Some(origin) = &input.world.given_claim else {
        return;
    };
    if !uses_trigger(origin) || value(origin, LATEST_COPY_STATUS) != Some(IN_PROGRESS) {
        return;
    }
    let Some(trigger) = made_for(input) else {
        return;
    };
    let said = json!({
        LATEST_COPY_STATUS: COMPLETED,
        LATEST_COPY_TRIGGER: trigger,
        LATEST_COPY_TRIGGER_WAITING_SINCE: null,
    });
    annotate(draft, origin, &said);
    note(
        draft,
        origin,
        "SrcPVCCopyUsingCopyTriggerCompleted",
        format!("The copy for trigger {trigger:?} is complete"),
    );
}

/// The value for which a copy was made that nothing which happens to its original can change any more.
fn made_for<'a>(input: &Input<'a>) -> Option<&'a str> {
    let world = input.world;
    if let Some(snapshot) = &world.snapshot {
        let ready = snapshot
            .status
            .as_ref()
            .is_some_and(|status| status.ready_to_use == Some(true));
        return of(input, &snapshot.metadata).filter(|_| ready);
    }
    let copy = world.own_claim.as_ref()?;
    let bound = copy
        .status
        .as_ref()
        .is_some_and(|status| status.phase.as_deref() == Some("Bound"));
    of(input, &copy.metadata).filter(|_| bound)
}

fn of<'a>(input: &Input<'_>, copy: &'a ObjectMeta) -> Option<&'a str> {
    annotation(copy, MADE_FOR_TRIGGER).filter(|_| input.subject.owns(copy))
}

/// Whether a copy outlives a failed run: the user gave leave for this one only, and must not be asked again because of a
/// peer that did not answer. With a new value of the trigger a new copy is made.
pub(super) fn keeps(input: &Input<'_>, copy: &ObjectMeta) -> bool {
    let Some(origin) = &input.world.given_claim else {
        return false;
    };
    let made_for = of(input, copy);
    uses_trigger(origin) && made_for.is_some() && made_for == value(origin, COPY_TRIGGER)
}

fn annotate(draft: &mut Draft<'_>, origin: &PersistentVolumeClaim, annotations: &Value) {
    draft.plan.changes.push(Change {
        target: same(Kind::Claim, &origin.metadata),
        patch: json!({ "metadata": { "annotations": annotations } }),
    });
}

fn note(draft: &mut Draft<'_>, origin: &PersistentVolumeClaim, reason: &'static str, text: String) {
    let related = Some(reference("v1", "PersistentVolumeClaim", &origin.metadata));
    draft.note(reason, ACTION, text, related);
}

/// Writes on a copy what it was made for.
pub(super) fn mark(metadata: &mut ObjectMeta, trigger: Option<String>) {
    if let Some(trigger) = trigger {
        metadata
            .annotations
            .get_or_insert_default()
            .insert(MADE_FOR_TRIGGER.to_owned(), trigger);
    }
}
