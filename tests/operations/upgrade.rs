//! From one version to the next.

use anyhow::{Context, Result};
use serde_json::json;
use syncline_testkit::{Who, scenario};
use syncline_tests::midway::Held;
use syncline_tests::parts::synced;

use crate::system::System;
use crate::{needs, turn};

/// Names the image of the commit before this one.
const PREVIOUS: &str = "SYNCLINE_E2E_PREVIOUS_IMAGE";

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_survives_the_upgrade_from_the_previous_version() -> Result<()> {
    let _turn = turn().await;
    let place = needs::PREVIOUS.shared(Who::Caller).await?;
    scenario(place, "upgrade", |stage| async move {
        let previous = std::env::var(PREVIOUS)
            .with_context(|| format!("{PREVIOUS} is not set: use make e2e"))?;
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        let system = System::of(&stage.cluster).await?;
        let present = system.image().await?;
        system.install(&previous).await?;
        let held = Held::begin(&stage, &east, &west).await?;
        system.install(&present).await?;
        held.release()?;
        held.finishes_undoubled().await?;
        let next = json!({"spec": {"trigger": {"manual": "next"}}});
        east.merge("ReplicationSource", "copy", next).await?;
        synced(&east, "copy", "next").await?;
        Ok(())
    })
    .await
}
