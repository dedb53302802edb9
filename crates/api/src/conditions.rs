//! The conditions of both kinds: `Synchronizing`, whose reasons are `VolSync`'s, and `Reconciled`.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Type of the condition that says whether data is moving, and why not.
pub const SYNCHRONIZING: &str = "Synchronizing";
/// Type of the condition that says whether the last reconciliation went well.
pub const RECONCILED: &str = "Reconciled";

/// Type of the condition that says that a run could not preserve everything; it is there only then.
pub const PRESERVED: &str = "Preserved";
/// Reason of `Preserved=False`: the mover's rights did not suffice.
pub const UNPRIVILEGED_MOVER: &str = "UnprivilegedMover";
/// Reason of `Preserved=False`: the way that the data takes does not carry everything.
pub const NOT_CARRIED: &str = "NotCarried";

/// Type of the condition that says that the operator lacks permissions; it is there only then.
pub const FORBIDDEN: &str = "Forbidden";
/// Reason of `Forbidden=True`.
pub const PERMISSION_MISSING: &str = "PermissionMissing";

/// Reason of `Synchronizing=True`.
pub const SYNC_IN_PROGRESS: &str = "SyncInProgress";
/// Reason of `Synchronizing=False`: the next run waits for its time.
pub const WAITING_FOR_SCHEDULE: &str = "WaitingForSchedule";
/// Reason of `Synchronizing=False`: the next run waits for a change of `spec.trigger.manual`.
pub const WAITING_FOR_MANUAL: &str = "WaitingForManual";
/// Reason of `Synchronizing=False`: what the last run needed is being removed.
pub const CLEANING_UP: &str = "CleaningUp";
/// Reason of `Synchronizing=False`: something keeps runs from happening; the message says what.
pub const ERROR: &str = "Error";
/// Reason of `Reconciled=True`.
pub const RECONCILE_COMPLETE: &str = "ReconcileComplete";
/// Reason of `Reconciled=False`; the message says what failed.
pub const RECONCILE_ERROR: &str = "ReconcileError";

/// What stands between what goes on and the cause of the try before.
const FAILED_BEFORE: &str = "; the try before failed";

/// Longest message that the schema admits, in characters; bytes are counted here, which is never more.
const LONGEST_MESSAGE: usize = 32_768;

/// A condition without the time of its last transition, which only the list that it is set in can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCondition {
    /// Which aspect this is, such as [`SYNCHRONIZING`].
    pub type_: &'static str,
    /// Whether the condition holds.
    pub holds: bool,
    /// One word for programs.
    pub reason: &'static str,
    /// A sentence for people.
    pub message: String,
    /// The `metadata.generation` it speaks of.
    pub observed_generation: Option<i64>,
}

impl NewCondition {
    fn synchronizing(
        holds: bool,
        reason: &'static str,
        message: &str,
        generation: Option<i64>,
    ) -> Self {
        Self {
            type_: SYNCHRONIZING,
            holds,
            reason,
            message: message.to_owned(),
            observed_generation: generation,
        }
    }

    /// Whether `list` already says exactly this.
    pub fn is_in(&self, list: &[Condition]) -> bool {
        list.iter().any(|found| {
            found.type_ == self.type_
                && found.status == truth(self.holds)
                && found.reason == self.reason
                && found.message == crate::report::head(&self.message, LONGEST_MESSAGE)
                && found.observed_generation == self.observed_generation
        })
    }
}

/// The operator lacks permissions.
pub fn forbidden(generation: Option<i64>, message: &str) -> NewCondition {
    NewCondition {
        type_: FORBIDDEN,
        holds: true,
        reason: PERMISSION_MISSING,
        message: message.to_owned(),
        observed_generation: generation,
    }
}

/// Data is moving.
pub fn sync_in_progress(generation: Option<i64>) -> NewCondition {
    NewCondition::synchronizing(
        true,
        SYNC_IN_PROGRESS,
        "Synchronization in-progress",
        generation,
    )
}

/// The message of a run that goes on after `failures` tries in a row have failed, the last of them for `cause`; `doing` is
/// what it says else.
pub fn after_failures(doing: &str, failures: u32, cause: &str) -> String {
    if failures > 1 {
        format!("{doing}{FAILED_BEFORE} ({failures} in a row): {cause}")
    } else {
        format!("{doing}{FAILED_BEFORE}: {cause}")
    }
}

/// Takes the words of [`after_failures`] apart: what goes on, and why the try before failed.
pub fn without_failures(message: &str) -> (&str, Option<&str>) {
    let Some((doing, before)) = message.split_once(FAILED_BEFORE) else {
        return (message, None);
    };
    (doing, before.split_once(": ").map(|(_, cause)| cause))
}

/// The next run waits for its time.
pub fn waiting_for_schedule(generation: Option<i64>) -> NewCondition {
    NewCondition::synchronizing(
        false,
        WAITING_FOR_SCHEDULE,
        "Waiting for next scheduled synchronization",
        generation,
    )
}

/// The next run waits for a change of `spec.trigger.manual`.
pub fn waiting_for_manual(generation: Option<i64>) -> NewCondition {
    NewCondition::synchronizing(
        false,
        WAITING_FOR_MANUAL,
        "Waiting for manual trigger",
        generation,
    )
}

/// What the last run needed is being removed.
pub fn cleaning_up(generation: Option<i64>) -> NewCondition {
    NewCondition::synchronizing(false, CLEANING_UP, "Cleaning up", generation)
}

/// Something keeps runs from happening; `message` names cause, object and cure.
pub fn sync_error(generation: Option<i64>, message: &str) -> NewCondition {
    NewCondition::synchronizing(false, ERROR, message, generation)
}

/// The last reconciliation went well.
pub fn reconcile_complete(generation: Option<i64>) -> NewCondition {
    NewCondition {
        type_: RECONCILED,
        holds: true,
        reason: RECONCILE_COMPLETE,
        message: "Reconcile complete".to_owned(),
        observed_generation: generation,
    }
}

/// The last reconciliation failed; `message` names cause, object and cure.
pub fn reconcile_error(generation: Option<i64>, message: &str) -> NewCondition {
    NewCondition {
        type_: RECONCILED,
        holds: false,
        reason: RECONCILE_ERROR,
        message: message.to_owned(),
        observed_generation: generation,
    }
}

/// The last run could not preserve everything; `message` names what.
pub fn not_preserved(
    generation: Option<i64>,
    reason: &'static str,
    message: String,
) -> NewCondition {
    NewCondition {
        type_: PRESERVED,
        holds: false,
        reason,
        message,
        observed_generation: generation,
    }
}

/// The condition of a type, if `list` has it.
pub fn find<'a>(list: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    list.iter().find(|condition| condition.type_ == type_)
}

/// Whether `list` says that something keeps runs from happening, in words that begin with these.
pub fn complains_of(list: &[Condition], words: &str) -> bool {
    find(list, SYNCHRONIZING).is_some_and(|found| {
        let words = crate::report::head(words, LONGEST_MESSAGE);
        found.reason == ERROR && found.message.starts_with(words)
    })
}

/// Puts a condition into a list in the place of the one of the same type. `lastTransitionTime` moves to `now` only when
/// the condition's status changes. Returns whether anything changed.
pub fn set(list: &mut Vec<Condition>, new: NewCondition, now: Timestamp) -> bool {
    if new.is_in(list) {
        return false;
    }
    let status = truth(new.holds);
    let message = bounded(new.message);
    if let Some(found) = list
        .iter_mut()
        .find(|condition| condition.type_ == new.type_)
    {
        if found.status != status {
            found.last_transition_time = Time(now);
            status.clone_into(&mut found.status);
        }
        new.reason.clone_into(&mut found.reason);
        found.message = message;
        found.observed_generation = new.observed_generation;
    } else {
        list.push(Condition {
            last_transition_time: Time(now),
            message,
            observed_generation: new.observed_generation,
            reason: new.reason.to_owned(),
            status: status.to_owned(),
            type_: new.type_.to_owned(),
        });
    }
    true
}

fn truth(holds: bool) -> &'static str {
    if holds { "True" } else { "False" }
}

/// The beginning of a message, as much of it as the schema admits.
pub fn bounded(mut message: String) -> String {
    message.truncate(crate::report::head(&message, LONGEST_MESSAGE).len());
    message
}
