//! A Job that makes way for another before it has ended: nothing is in flight, and what was corrected since it began may be what
//! kept it.

use k8s_openapi::api::batch::v1::Job;

use super::job::{Run, fingerprint};
use super::standing::Standing;
use super::{Input, outcome, rclone};
use crate::validate::Validated;

/// Whether the Job, whose pods may be stuck, makes way for one of what is asked for now.
pub(super) fn makes_way(
    input: &Input<'_>,
    now: Option<(&Validated, &Standing)>,
    job: &Job,
    is_stuck: bool,
) -> bool {
    let Some((wish, standing)) = now else {
        return false;
    };
    let began_with = Run::of(job, Some(wish));
    let asks_for_another =
        (began_with.asked).is_some_and(|asked| asked != fingerprint(input, wish, standing));
    let is_outdated = rclone::is_other(input, began_with.configured.as_ref());
    if rclone::is_waiting(input) || is_between_tries(input) {
        asks_for_another || is_outdated
    } else {
        is_stuck && never_ran(input) && asks_for_another
    }
}

/// Whether no pod of the Job has come up yet.
fn never_ran(input: &Input<'_>) -> bool {
    let mut pods = input.world.pods.iter();
    pods.all(|pod| outcome::phase_of(pod) == Some("Pending"))
}

/// Whether every pod so far has failed, and the next is still to come. It would be like them: a Job's template is what it was.
fn is_between_tries(input: &Input<'_>) -> bool {
    let pods = &input.world.pods;
    let mut phases = pods.iter().map(outcome::phase_of);
    !pods.is_empty() && phases.all(|phase| phase == Some("Failed"))
}
