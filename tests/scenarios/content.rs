//! What a volume may hold: more than a tool's author thought of.

use anyhow::{Context, Result};
use serde_json::json;
use syncline_testkit::scenario::Stage;
use syncline_testkit::tree::Ignore;
use syncline_testkit::{Cluster, Who, corpus, scenario};

use crate::needs;
use crate::parts::{
    condition, image_after, manually, must_be_alike, receiver, source, synced, text, tree_of_image,
};

/// As many as upset a replicator that kept their names in a list of arguments.
const CROWD: usize = 21_000;

#[tokio::test(flavor = "multi_thread")]
async fn many_thousand_files_with_hostile_names_in_one_folder_arrive() -> Result<()> {
    scenario(Cluster::shared(Who::Caller).await?, "crowd", |stage| {
        arrives(stage, |folder| corpus::crowd(folder, CROWD))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_and_groups_are_kept_by_number_whoever_they_are() -> Result<()> {
    scenario(needs::ROOT.shared(Who::Caller).await?, "owners", |stage| {
        arrives(stage, corpus::owners)
    })
    .await
}

async fn arrives(stage: Stage, fill: fn(&std::path::Path) -> Result<()>) -> Result<()> {
    let (east, west) = (stage.site("east").await?, stage.site("west").await?);
    let data = east.volume("data").await?;
    data.edit(fill).await?;
    let tree = data.tree().await?;
    let peer = receiver(&east, &west, "copy", json!({})).await?;
    let manifest = source("copy", "data", &peer, json!({}));
    east.apply(manually(manifest.clone(), "first")).await?;
    synced(&east, "copy", "first").await?;
    let image = image_after(&west, "copy", None).await?;
    must_be_alike(&tree, &tree_of_image(&west, &image).await?)?;
    // Nothing has changed, and nothing may be taken for gone.
    east.apply(manually(manifest, "second")).await?;
    let object = synced(&east, "copy", "second").await?;
    assert_eq!(
        text(&object, "/status/latestMoverStatus/result"),
        Some("Successful"),
        "{object:#}"
    );
    let next = image_after(&west, "copy", Some(&image)).await?;
    must_be_alike(&tree, &tree_of_image(&west, &next).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_file_keeps_nothing_else_from_arriving() -> Result<()> {
    scenario(
        needs::ROOT.shared(Who::Caller).await?,
        "device",
        |stage| async move {
            let (east, west) = (stage.site("east").await?, stage.site("west").await?);
            let data = east.volume("data").await?;
            data.edit(|folder| corpus::plain(folder, 20, 1)).await?;
            let without = data.tree().await?;
            data.edit(|folder| corpus::device(&folder.join("device")))
                .await?;
            let tree = data.tree().await?;
            let peer = receiver(&east, &west, "copy", json!({})).await?;
            east.apply(manually(source("copy", "data", &peer, json!({})), "once"))
                .await?;
            let sent = synced(&east, "copy", "once").await?;
            let image = image_after(&west, "copy", None).await?;
            let copy = tree_of_image(&west, &image).await?;
            // A mover has VolSync's capabilities, of which none is for making devices; one that is root on the machine has all.
            match condition(&sent, "Preserved") {
                None => must_be_alike(&tree, &copy),
                Some(told) => {
                    let message = text(told, "/message").context("no message")?;
                    assert!(message.contains("device files"), "{message}");
                    let ignore = Ignore {
                        root: true,
                        ..Ignore::default()
                    };
                    without.must_equal(&copy, ignore)
                }
            }
        },
    )
    .await
}
