//! The design page's story: the primary site fails, the secondary takes over, and later the data comes home.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use syncline_testkit::scenario::Stage;
use syncline_testkit::{Cluster, Who, scenario};

use crate::needs;
use crate::parts::{
    condition, fill_hostile, image_after, manually, must_be_alike, receiver, source, synced, text,
};

#[tokio::test(flavor = "multi_thread")]
async fn the_secondary_site_takes_over_and_the_data_comes_home() -> Result<()> {
    scenario(
        Cluster::shared(Who::Caller).await?,
        "failover",
        over_and_back,
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn for_an_ordinary_user_the_data_comes_home_too() -> Result<()> {
    scenario(
        needs::ORDINARY_USER.shared(Who::Ordinary).await?,
        "failover",
        over_and_back,
    )
    .await
}

async fn over_and_back(stage: Stage) -> Result<()> {
    let (primary, secondary) = (stage.site("primary").await?, stage.site("secondary").await?);
    let data = primary.volume("app").await?;
    fill_hostile(&stage.cluster, &data).await?;
    let before = data.tree().await?;
    let forth = receiver(&primary, &secondary, "forth", json!({})).await?;
    // The way back is set up beforehand, and idles: its source volume does not exist.
    let back = receiver(&secondary, &primary, "back", json!({})).await?;
    secondary
        .apply(manually(
            source("back", "app", &back, json!({"copyMethod": "Clone"})),
            "home",
        ))
        .await?;
    let idle = |object: &Value| {
        condition(object, "Synchronizing")
            .and_then(|found| text(found, "/message"))
            .filter(|message| message.contains("app"))
            .map(|_| ())
    };
    secondary
        .wait(
            "ReplicationSource",
            "back",
            "an idle state that names the volume",
            idle,
        )
        .await?;
    primary
        .apply(manually(source("forth", "app", &forth, json!({})), "last"))
        .await?;
    synced(&primary, "forth", "last").await?;
    let image = image_after(&secondary, "forth", None).await?;

    // The primary site is lost; the secondary's application starts from the latest image and goes on working.
    primary.delete("ReplicationSource", "forth").await?;
    let there = secondary.volume_from_snapshot("app", &image).await?;
    must_be_alike(&before, &there.tree().await?)
        .context("the secondary's application starts from something else")?;
    let sent = synced(&secondary, "back", "home").await?;
    assert_eq!(
        text(&sent, "/status/latestMoverStatus/result"),
        Some("Successful")
    );
    let first_home = image_after(&primary, "back", None).await?;
    there
        .edit(|folder| {
            std::fs::write(
                folder.join("written at the secondary site"),
                "after the failover",
            )?;
            Ok(std::fs::remove_file(folder.join("zero bytes"))?)
        })
        .await?;
    let after = there.tree().await?;
    secondary
        .merge(
            "ReplicationSource",
            "back",
            json!({"spec": {"trigger": {"manual": "again"}}}),
        )
        .await?;
    synced(&secondary, "back", "again").await?;
    let home = image_after(&primary, "back", Some(&first_home)).await?;

    // The primary site is back: its old volume makes room for one with the secondary's data.
    primary.delete("PersistentVolumeClaim", "app").await?;
    primary.wait_gone("PersistentVolumeClaim", "app").await?;
    let restored = primary.volume_from_snapshot("app", &home).await?;
    must_be_alike(&after, &restored.tree().await?)
        .context("the primary's application would start from something else")
}
