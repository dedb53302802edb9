//! Replays what a real API server was asked, and compares the answers: names, uids, versions and times aside.
//!
//! `NOT_YET` names the behaviours that differ, each with its reason. A behaviour that is named and is met fails the test
//! just as one that is not named and differs.

#[cfg(test)]
mod compare;
#[cfg(test)]
mod recorded;
#[cfg(test)]
mod stage;

use std::sync::Arc;

use syncline_embedded::{Cluster, Config, clock::SystemClock};

use self::recorded::Recorded;
use self::stage::Stage;

/// Behaviours that are not those of a real server, and why.
const NOT_YET: &[(&str, &str)] = &[
    (
        "job: template immutable",
        "the message shows the internal Go struct of a pod template, whose fields are not published; the status, reason, field and \
         the rest of the message are those of a real server",
    ),
    (
        "cr: rule",
        "rules in CEL (x-kubernetes-validations) are kept but not evaluated",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_recorded_behaviours_of_a_real_api_server_are_met_but_for_those_named() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(Config::new(folder.path()), Arc::new(SystemClock))
        .await
        .unwrap();
    let mut stage = Stage::new(&cluster).await;
    let mut surprises = Vec::new();
    for recorded in Recorded::all() {
        let outcome = stage.play(&recorded).await;
        let expected = NOT_YET.iter().any(|(name, _)| *name == recorded.name);
        match outcome {
            Ok(()) if expected => {
                surprises.push(format!("«{}» is met: take it off the list", recorded.name));
            }
            Err(difference) if !expected => {
                surprises.push(format!("«{}» differs:\n{difference}", recorded.name));
            }
            _ => {}
        }
    }
    for (name, _) in NOT_YET {
        assert!(
            Recorded::all()
                .iter()
                .any(|recorded| recorded.name == *name),
            "no behaviour is named «{name}»"
        );
    }
    cluster.shutdown().await;
    assert!(
        surprises.is_empty(),
        "{} behaviours:\n\n{}",
        surprises.len(),
        surprises.join("\n\n")
    );
}
