//! Two replicas: one works, the other takes over.

use anyhow::{Result, ensure};
use syncline_testkit::scenario::Stage;
use syncline_testkit::{Who, scenario};
use syncline_tests::midway::Held;

use crate::killed::Orphaned;
use crate::system::System;
use crate::{needs, turn};

#[tokio::test(flavor = "multi_thread")]
async fn when_the_leader_is_killed_in_mid_sync_the_other_replica_finishes_it() -> Result<()> {
    let _turn = turn().await;
    let place = needs::DEPLOYMENT.shared(Who::Caller).await?;
    scenario(place, "leader", |stage| async move {
        let system = System::of(&stage.cluster).await?;
        system.scale(2).await?;
        let outcome = other_finishes(&stage).await;
        system.scale(1).await?;
        outcome
    })
    .await
}

async fn other_finishes(stage: &Stage) -> Result<()> {
    let (east, west) = (stage.site("east").await?, stage.site("west").await?);
    let held = Held::begin(stage, &east, &west).await?;
    let cluster = stage.cluster.real()?;
    // Whoever was killed stays dead as long as nobody starts it again.
    cluster.part("stop", "kubelet")?;
    let taken = async {
        let orphaned = Orphaned::leave(stage).await?;
        let leader = orphaned.is_taken_when_it_has_run_out().await?;
        ensure!(leader != orphaned.pod(), "{leader} was killed");
        Ok(())
    }
    .await;
    cluster.part("start", "kubelet")?;
    taken?;
    held.release()?;
    held.finishes_undoubled().await
}
