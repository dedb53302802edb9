//! From one version to the next.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use syncline_testkit::{Who, scenario};
use syncline_tests::midway::Held;
use syncline_tests::parts::synced;

use crate::release::CHART;
use crate::system::{System, Version};
use crate::{needs, turn};

/// Name the image of the version before this one and the folder of its chart.
const PREVIOUS_IMAGE: &str = "SYNCLINE_E2E_PREVIOUS_IMAGE";
const PREVIOUS_CHART: &str = "SYNCLINE_E2E_PREVIOUS_CHART";

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_survives_the_upgrade_from_the_previous_version() -> Result<()> {
    let _turn = turn().await;
    let place = needs::PREVIOUS.shared(Who::Caller).await?;
    scenario(place, "upgrade", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        let system = System::of(&stage.cluster).await?;
        let previous = previous()?;
        let present = Version {
            image: system.image().await?,
            chart: CHART.to_owned(),
        };
        ensure!(
            previous.image != present.image,
            "both versions are {}: nothing would be upgraded",
            present.image
        );
        // The present operator does not work with the rights of the previous one.
        system.remove().await?;
        let begun = async {
            system.install(&previous).await?;
            Held::begin(&stage, &east, &west).await
        }
        .await;
        // Whatever came of it, the next test finds the present version.
        system.install(&present).await?;
        let held = begun?;
        held.release()?;
        held.finishes_undoubled().await?;
        let next = json!({"spec": {"trigger": {"manual": "next"}}});
        east.merge("ReplicationSource", "copy", next).await?;
        synced(&east, "copy", "next").await?;
        Ok(())
    })
    .await
}

fn previous() -> Result<Version> {
    let named =
        |name| std::env::var(name).with_context(|| format!("{name} is not set: use make e2e"));
    Ok(Version {
        image: named(PREVIOUS_IMAGE)?,
        chart: named(PREVIOUS_CHART)?,
    })
}
