//! What a namespace allows its pods.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use syncline_testkit::scenario::Stage;
use syncline_testkit::tree::Ignore;
use syncline_testkit::{Site, Who, corpus, scenario};

use crate::needs;
use crate::parts::{
    condition, destination, image_after, listening, manually, source, synced, text, tree_of_image,
};

/// Within this time a persistent fault must be told.
const CLEAR_CAP: Duration = Duration::from_secs(120);
/// The user and group of the unprivileged movers.
const USER: u32 = 1234;
const GROUP: u32 = 5678;

#[tokio::test(flavor = "multi_thread")]
async fn where_root_is_forbidden_the_cure_is_told_and_an_unprivileged_run_works() -> Result<()> {
    scenario(
        needs::POD_SECURITY.shared(Who::Caller).await?,
        "restricted",
        unprivileged,
    )
    .await
}

async fn unprivileged(stage: Stage) -> Result<()> {
    let east = stage.site_with("east", "restricted").await?;
    let west = stage.site_with("west", "restricted").await?;
    let data = east.volume("data").await?;
    data.edit(|folder| {
        corpus::plain(folder, 50, 1)?;
        owned_by_user(folder)
    })
    .await?;
    let tree = data.tree().await?;

    west.apply(destination("copy", json!({}))).await?;
    told_the_cure(&west, "ReplicationDestination").await?;
    let rights =
        json!({"moverSecurityContext": {"runAsUser": USER, "runAsGroup": GROUP, "fsGroup": GROUP}});
    west.apply(destination("copy", rights.clone())).await?;
    let peer = listening(&west, "copy").await?;
    west.hand_over_secret(&peer.keys, &east).await?;
    east.apply(manually(source("copy", "data", &peer, json!({})), "once"))
        .await?;
    told_the_cure(&east, "ReplicationSource").await?;
    east.apply(manually(source("copy", "data", &peer, rights), "once"))
        .await?;
    synced(&east, "copy", "once").await?;
    let image = image_after(&west, "copy", None).await?;
    let copy = tree_of_image(&west, &image).await?;
    // The volume's root belongs to whoever made the volume, and only root may give it away.
    tree.must_equal(
        &copy,
        Ignore {
            root: true,
            ..Ignore::default()
        },
    )
}

/// Everything is the user's, with the modes that the kubelet gives to what is in a volume of an fsGroup.
fn owned_by_user(folder: &Path) -> Result<()> {
    corpus::give_to(folder, USER, GROUP)?;
    for file in corpus::files_below(folder)? {
        set_permissions(&file, Permissions::from_mode(0o664))?;
        if let Some(parent) = file.parent() {
            set_permissions(parent, Permissions::from_mode(0o2775))?;
        }
    }
    Ok(())
}

async fn told_the_cure(site: &Site, kind: &str) -> Result<()> {
    let cure = |object: &Value| {
        let found = condition(object, "Synchronizing")?;
        let message = text(found, "/message")?;
        let parts = ["restricted", "baseline", "moverSecurityContext"];
        (text(found, "/reason") == Some("Error") && parts.iter().all(|part| message.contains(part)))
            .then_some(())
    };
    site.within(CLEAR_CAP)
        .wait(kind, "copy", "an error that tells the cure", cure)
        .await
}
