//! Two replicas: one works, the other takes over.

use anyhow::Result;
use syncline_testkit::{Who, scenario};
use syncline_tests::midway::Held;

use crate::system::System;
use crate::{needs, turn};

#[tokio::test(flavor = "multi_thread")]
async fn when_the_leader_is_killed_in_mid_sync_the_other_replica_finishes_it() -> Result<()> {
    let _turn = turn().await;
    let place = needs::DEPLOYMENT.shared(Who::Caller).await?;
    scenario(place, "leader", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        let system = System::of(&stage.cluster).await?;
        system.scale(2).await?;
        let leader = system.leader_other_than(None).await?;
        let held = Held::begin(&stage, &east, &west).await?;
        system.kill(&leader)?;
        system.leader_other_than(Some(&leader)).await?;
        held.release()?;
        held.finishes_undoubled().await?;
        system.scale(1).await
    })
    .await
}
