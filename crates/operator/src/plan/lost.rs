//! What a run could not preserve: a condition that is there for as long as it is so.

use syncline_api::conditions;
use syncline_api::names::Mover;

use super::Input;
use super::draft::Draft;
use super::outcome::Words;
use super::pod::{Rights, rights};

/// Says what of the data a successful run lost on its way, or takes back what was said before.
pub(super) fn say(draft: &mut Draft<'_>, input: &Input<'_>, words: &Words) {
    let lost = words
        .report
        .as_ref()
        .map(|report| report.unpreserved.join("; "))
        .unwrap_or_default();
    if lost.is_empty() {
        let known = &mut draft.state.conditions;
        known.retain(|condition| condition.type_ != conditions::PRESERVED);
        return;
    }
    let (reason, message) = match input.mover() {
        Mover::Rclone => {
            let report = words.report.as_ref();
            let wants_rights = report.is_some_and(|report| report.for_want_of_rights);
            by_rclone(input, &lost, wants_rights)
        }
        _ => (conditions::UNPRIVILEGED_MOVER, by_rsync(&lost)),
    };
    let condition = conditions::not_preserved(input.subject.generation, reason, message);
    conditions::set(&mut draft.state.conditions, condition, input.now());
}

fn by_rsync(lost: &str) -> String {
    format!(
        "the rights of the movers did not suffice to preserve: {lost}; owners, groups and the root folder are kept when the movers of \
         both sides run without moverSecurityContext, or with the annotation volsync.backube/privileged-movers: \"true\" on their \
         namespaces (on the embedded cluster: when `syncline up` is run by root); device files and attributes of the system take more than that gives"
    )
}

/// What the store does not carry is lost whatever the rights; with some, a destination's mover gives back what its user may
/// not.
fn by_rclone(input: &Input<'_>, lost: &str, wants_rights: bool) -> (&'static str, String) {
    let privileged = input
        .wish
        .is_ok_and(|wish| rights(input, wish) != Rights::None);
    if privileged || !wants_rights {
        let message = format!("not everything was preserved: {lost}");
        return (conditions::NOT_CARRIED, message);
    }
    let message = format!(
        "not everything was preserved: {lost}; for owners and permissions annotate namespace {} with \
         volsync.backube/privileged-movers: \"true\", and let it fetch once more (a new value of spec.trigger.manual)",
        input.namespace()
    );
    (conditions::UNPRIVILEGED_MOVER, message)
}
