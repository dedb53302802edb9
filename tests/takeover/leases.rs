//! Several operators, of which one works.

use std::time::{Duration, Instant};

use anyhow::Result;
use syncline_operator::leader;
use syncline_operator::options::{Election, Options, Timing};
use syncline_testkit::wait::{Look, wait_for};
use syncline_testkit::{Site, scenario};
use syncline_tests::midway::Held;
use syncline_tests::parts::text;

use crate::operators::{Operator, cluster, options};

const SOON: Duration = Duration::from_secs(60);
/// How long the leases of these tests last; a test that must not wait for one to run out makes it long.
const SHORT: Duration = Duration::from_secs(15);
const LONG: Duration = Duration::from_secs(600);
/// The longest wait between two tries.
const RETRY: Duration = Duration::from_secs(4);

fn candidate(site: &Site, host: &str, lease: Duration) -> Options {
    Options {
        election: Some(Election {
            namespace: site.namespace.clone(),
            name: Election::VOLSYNC_LEASE.to_owned(),
            identity: leader::identity(host),
            timing: Timing {
                lease,
                renew: lease * 2 / 3,
                // Every request must be answered within this time, on a busy machine too.
                retry: (lease / 4).min(RETRY),
            },
        }),
        ..options()
    }
}

/// Waits until the lease is held by somebody whose host is `host`.
async fn held_by(site: &Site, host: &str) -> Result<()> {
    wait_for(&format!("the lease to be held by {host}"), SOON, || async {
        let lease = site.find("Lease", Election::VOLSYNC_LEASE).await?;
        let holder = lease
            .as_ref()
            .and_then(|lease| text(lease, "/spec/holderIdentity"))
            .unwrap_or("nobody");
        Ok(if holder.starts_with(&format!("{host}_")) {
            Look::Done(())
        } else {
            Look::NotYet(holder.to_owned())
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_leader_dies_in_mid_sync_the_other_one_finishes_the_same_run() -> Result<()> {
    scenario(cluster().await?, "leader", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        let first = Operator::start(&stage.cluster, candidate(&east, "first", SHORT)).await?;
        held_by(&east, "first").await?;
        let second = Operator::start(&stage.cluster, candidate(&east, "second", SHORT)).await?;
        let held = Held::begin(&stage, &east, &west).await?;
        assert!(second.sent.count() > 0, "it looks at the lease");
        assert_eq!(second.sent.writes(), [""; 0], "only the leader works");
        first.kill().await;
        held_by(&east, "second").await?;
        held.release()?;
        held.finishes_undoubled().await?;
        second.stop().await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_ends_in_good_order_gives_the_lease_back() -> Result<()> {
    scenario(cluster().await?, "release", |stage| async move {
        let site = stage.site("system").await?;
        let first = Operator::start(&stage.cluster, candidate(&site, "first", LONG)).await?;
        held_by(&site, "first").await?;
        let second = Operator::start(&stage.cluster, candidate(&site, "second", LONG)).await?;
        let stopped = Instant::now();
        first.stop().await?;
        held_by(&site, "second").await?;
        assert!(stopped.elapsed() < LONG / 4);
        second.stop().await?;
        let lease = site.get("Lease", Election::VOLSYNC_LEASE).await?;
        assert_eq!(text(&lease, "/spec/holderIdentity"), Some(""));
        assert_eq!(lease.pointer("/spec/leaseDurationSeconds"), Some(&1.into()));
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_in_mid_sync_neither_loses_nor_doubles_the_run() -> Result<()> {
    scenario(cluster().await?, "upgrade", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        let old = Operator::start(&stage.cluster, candidate(&east, "old", LONG)).await?;
        let held = Held::begin(&stage, &east, &west).await?;
        // A rollout starts the new one before it ends the old one.
        let new = Operator::start(&stage.cluster, candidate(&east, "new", LONG)).await?;
        old.stop().await?;
        held_by(&east, "new").await?;
        held.release()?;
        held.finishes_undoubled().await?;
        let second_job = new.sent.writes().into_iter().filter(|write| {
            write.starts_with("PATCH") && write.ends_with("/jobs/volsync-rsync-src-copy")
        });
        assert_eq!(
            second_job.count(),
            0,
            "the new one makes no Job for the run"
        );
        new.stop().await
    })
    .await
}
