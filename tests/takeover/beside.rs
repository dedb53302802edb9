//! Beside VolSync: what is not ours is not touched.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use syncline_api::names::Mover;
use syncline_operator::options::{Movers, Options};
use syncline_testkit::{Site, scenario};
use syncline_tests::parts::{condition, is, listening, text};

use crate::operators::{Operator, cluster, options};

/// A resource for restic, in the middle of a life with VolSync.
async fn of_restic(site: &Site, name: &str) -> Result<Value> {
    site.apply(json!({
        "apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationSource", "metadata": {"name": name},
        "spec": {"sourcePVC": "data", "trigger": {"schedule": "0 * * * *"}, "restic": {"repository": "r", "copyMethod": "Direct"}},
    }))
    .await?;
    let status = json!({"status": {
        "lastSyncTime": "2026-01-01T00:00:00Z", "nextSyncTime": "2026-01-01T01:00:00Z",
        "conditions": [{"type": "Synchronizing", "status": "False", "reason": "WaitingForSchedule",
            "message": "Waiting for next scheduled synchronization", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    }});
    site.merge_status("ReplicationSource", name, status).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_takes_every_word_back_is_not_fought_with() -> Result<()> {
    scenario(cluster().await?, "rival", |stage| async move {
        let site = stage.site("mixed").await?;
        site.apply(destination("copy")).await?;
        let operator = Operator::start(&stage.cluster, options()).await?;
        let rival = tokio::spawn(take_back(site.clone()));
        rival.await??;
        assert!(
            operator.sent.writes().len() < 40,
            "{:?}",
            operator.sent.writes()
        );
        operator.stop().await
    })
    .await
}

/// Takes back every word of an operator's, as often as it says one, until it has been silent for a while.
async fn take_back(site: Site) -> Result<()> {
    let ours = |object: &Value| {
        let found = condition(object, "Synchronizing")?;
        found.get("observedGeneration").map(|_| ())
    };
    let soon = site.within(Duration::from_secs(3));
    for _ in 0..100 {
        let said = soon.wait("ReplicationDestination", "copy", "our words", ours);
        if said.await.is_err() {
            return Ok(());
        }
        let back = json!({"status": {"conditions": [{"type": "Synchronizing", "status": "False", "reason": "Error",
            "message": "a replication method must be specified", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
        site.merge_status("ReplicationDestination", "copy", back)
            .await?;
    }
    anyhow::bail!("the two have taken a hundred turns")
}

fn destination(name: &str) -> Value {
    syncline_tests::parts::destination(name, json!({}))
}

#[tokio::test(flavor = "multi_thread")]
async fn with_movers_named_every_other_resource_stays_as_it_is() -> Result<()> {
    scenario(cluster().await?, "named", |stage| async move {
        let site = stage.site("mixed").await?;
        let before = of_restic(&site, "backup").await?;
        // Nobody has said a word about this one yet, and this operator is not the one to do so.
        site.apply(json!({
            "apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationDestination", "metadata": {"name": "fresh"},
            "spec": {"rclone": {"copyMethod": "Direct"}},
        }))
        .await?;
        let only = Movers::Only(BTreeSet::from([Mover::Rsync]));
        let operator = Operator::start(&stage.cluster, Options { movers: only, ..options() }).await?;
        site.apply(destination("copy")).await?;
        listening(&site, "copy").await?;
        assert_eq!(site.get("ReplicationSource", "backup").await?, before);
        assert_eq!(site.get("ReplicationDestination", "fresh").await?.get("status"), None);
        let foreign = operator.sent.writes().into_iter().filter(|write| write.contains("backup") || write.contains("fresh"));
        assert_eq!(foreign.collect::<Vec<_>>(), [""; 0]);
        for event in site.list("Event").await? {
            let about = text(&event, "/involvedObject/name").or_else(|| text(&event, "/regarding/name"));
            assert!(!matches!(about, Some("backup" | "fresh")), "{event}");
        }
        operator.stop().await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_movers_named_a_resource_that_volsync_answers_for_is_left_to_it() -> Result<()> {
    scenario(cluster().await?, "unnamed", |stage| async move {
        let site = stage.site("mixed").await?;
        let before = of_restic(&site, "backup").await?;
        site.apply(json!({
            "apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationSource", "metadata": {"name": "orphan"},
            "spec": {"sourcePVC": "data", "restic": {"repository": "r", "copyMethod": "Direct"}},
        }))
        .await?;
        let operator = Operator::start(&stage.cluster, options()).await?;
        let told = site
            .wait("ReplicationSource", "orphan", "words about its mover", |object| {
                let found = condition(object, "Synchronizing").filter(|_| is(object, "Synchronizing", "False", "Error"))?;
                text(found, "/message").map(str::to_owned)
            })
            .await?;
        assert!(told.contains("restic") && told.contains("rsync"), "{told}");
        assert_eq!(site.get("ReplicationSource", "backup").await?, before);
        operator.stop().await
    })
    .await
}
