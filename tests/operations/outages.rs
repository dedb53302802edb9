//! Parts of the cluster go away in the middle of a sync and come back.

use std::time::Duration;

use anyhow::Result;
use syncline_testkit::{Who, scenario};
use syncline_tests::midway::Held;

use crate::killed::Orphaned;
use crate::{needs, turn};

/// For how long the API server is away.
const ABSENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_killed_in_mid_sync_finds_the_sync_again() -> Result<()> {
    let _turn = turn().await;
    let place = needs::DEPLOYMENT.shared(Who::Caller).await?;
    scenario(place, "operator", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        let held = Held::begin(&stage, &east, &west).await?;
        let orphaned = Orphaned::leave(&stage).await?;
        orphaned.is_taken_when_it_has_run_out().await?;
        held.release()?;
        held.finishes_undoubled().await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_runtime_that_restarts_in_mid_sync_costs_nothing() -> Result<()> {
    let _turn = turn().await;
    let place = needs::PARTS.shared(Who::Caller).await?;
    scenario(place, "runtime", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        let held = Held::begin(&stage, &east, &west).await?;
        let cluster = stage.cluster.real()?;
        cluster.part("stop", "containerd")?;
        cluster.part("start", "containerd")?;
        held.release()?;
        held.finishes_undoubled().await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_ends_well_although_the_api_server_was_away_for_a_minute() -> Result<()> {
    let _turn = turn().await;
    let place = needs::PARTS.shared(Who::Caller).await?;
    scenario(place, "absence", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        let held = Held::begin(&stage, &east, &west).await?;
        let cluster = stage.cluster.real()?;
        cluster.part("stop", "apiserver")?;
        let released = held.release();
        // The absence is what is tested, not something waited for.
        tokio::time::sleep(ABSENCE).await;
        cluster.part("start", "apiserver")?;
        released?;
        cluster.ready().await?;
        held.finishes_undoubled().await
    })
    .await
}
