//! Which resources are this operator's business. Of every other one it reads the spec, and that is all: no write, no
//! event, no metric.

use syncline_api::conditions::SYNCHRONIZING;

use crate::options::{BUILT, Movers};
use crate::subject::Subject;
use crate::validate::chosen_mover;

/// Whether to look after a resource.
///
/// Where the movers are named, one of them must be the resource's only mover. Where they are not, a mover that this
/// version lacks, or none at all, is said to be missing, but only as long as nobody else answers for the resource: `VolSync` in the same
/// cluster would take our words back, and so on for ever.
pub fn is_ours(movers: &Movers, subject: &Subject) -> bool {
    let mover = chosen_mover(&subject.spec);
    match movers {
        Movers::Only(named) => mover.is_some_and(|mover| named.contains(&mover)),
        Movers::All => {
            mover.is_some_and(|mover| BUILT.contains(&mover)) || !has_another_master(subject)
        }
    }
}

/// Whether another controller has written the condition: `VolSync` never says which generation it speaks of.
pub fn has_another_master(subject: &Subject) -> bool {
    subject
        .state
        .condition(SYNCHRONIZING)
        .is_some_and(|condition| condition.observed_generation.unwrap_or(0) == 0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};
    use syncline_api::ReplicationSource;
    use syncline_api::names::Mover;

    use super::*;

    #[expect(
        clippy::needless_pass_by_value,
        reason = "`json!` at the place of the call reads best by value"
    )]
    fn subject(spec: Value, generation: Option<i64>) -> Subject {
        let mut source: ReplicationSource = serde_json::from_value(json!({
            "apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationSource",
            "metadata": {"name": "db", "namespace": "east"}, "spec": spec,
        }))
        .unwrap();
        if generation.is_some() {
            let condition = json!({"type": "Synchronizing", "status": "False", "reason": "WaitingForSchedule",
                "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": generation});
            source.status = serde_json::from_value(json!({"conditions": [condition]})).unwrap();
        }
        Subject::of_source(&source)
    }

    #[test]
    fn named_movers_are_ours_and_nothing_else_is() {
        let only = Movers::Only(BTreeSet::from([Mover::Rsync]));
        let ours = |spec| is_ours(&only, &subject(spec, None));
        assert!(ours(json!({"rsync": {}})));
        assert!(!ours(json!({"restic": {}})));
        assert!(!ours(json!({"rsync": {}, "restic": {}})));
        assert!(!ours(json!({})));
        assert!(!ours(json!({"external": {}})));
    }

    #[test]
    fn a_mover_we_lack_is_ours_to_complain_of_unless_somebody_else_answers() {
        let ours = |spec, generation| is_ours(&Movers::All, &subject(spec, generation));
        assert!(ours(json!({"restic": {}}), None));
        assert!(ours(json!({"restic": {}}), Some(3)));
        assert!(!ours(json!({"restic": {}}), Some(0)));
        assert!(ours(json!({"rsync": {}}), Some(0)));
        assert!(ours(json!({}), None));
        assert!(!ours(json!({}), Some(0)));
    }
}
