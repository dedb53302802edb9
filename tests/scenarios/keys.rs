//! Keys: made at either end, or given.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use syncline_testkit::{Cluster, Site, Who, scenario};

use crate::needs;
use crate::parts::{
    Peer, destination, fill_plain, image_after, listening, manually, must_be_alike, source, synced,
    text, tree_of_image,
};

#[tokio::test(flavor = "multi_thread")]
async fn keys_made_at_the_destination_let_the_source_in() -> Result<()> {
    scenario(
        Cluster::shared(Who::Caller).await?,
        "dst-keys",
        |stage| async move {
            let (east, west) = (stage.site("east").await?, stage.site("west").await?);
            fill_plain(&east.volume("data").await?, 10, 1).await?;
            let peer = crate::parts::receiver(&east, &west, "copy", json!({})).await?;
            assert_eq!(peer.keys, "volsync-rsync-dst-src-copy");
            has_keys(
                &west,
                "volsync-rsync-dst-main-copy",
                &["source", "source.pub", "destination", "destination.pub"],
            )
            .await?;
            has_keys(
                &west,
                "volsync-rsync-dst-src-copy",
                &["source", "source.pub", "destination.pub"],
            )
            .await?;
            has_keys(
                &west,
                "volsync-rsync-dst-dest-copy",
                &["destination", "destination.pub", "source.pub"],
            )
            .await?;
            east.apply(manually(source("copy", "data", &peer, json!({})), "once"))
                .await?;
            synced(&east, "copy", "once").await?;
            Ok(())
        },
    )
    .await
}

async fn has_keys(site: &Site, secret: &str, expected: &[&str]) -> Result<()> {
    let secret = site.get("Secret", secret).await?;
    let data = secret
        .get("data")
        .and_then(Value::as_object)
        .context("a Secret without data")?;
    let mut expected: Vec<String> = expected.iter().map(|key| (*key).to_owned()).collect();
    expected.sort();
    let mut found: Vec<String> = data.keys().cloned().collect();
    found.sort();
    assert_eq!(found, expected);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_made_at_the_source_let_it_into_the_destination() -> Result<()> {
    scenario(
        Cluster::shared(Who::Caller).await?,
        "src-keys",
        |stage| async move {
            let (east, west) = (stage.site("east").await?, stage.site("west").await?);
            let data = east.volume("data").await?;
            fill_plain(&data, 10, 2).await?;
            // The source is there first, and knows no keys and no address.
            let nobody = Peer {
                address: "127.0.0.1".to_owned(),
                port: 1,
                keys: String::new(),
            };
            let unknown = json!({"sshKeys": null, "address": null, "port": null});
            east.apply(manually(source("copy", "data", &nobody, unknown), "once"))
                .await?;
            let keys = east
                .wait(
                    "ReplicationSource",
                    "copy",
                    "keys for the other side",
                    |object| text(object, "/status/rsync/sshKeys").map(str::to_owned),
                )
                .await?;
            assert_eq!(keys, "volsync-rsync-src-dest-copy");
            east.hand_over_secret(&keys, &west).await?;
            west.apply(destination("copy", json!({"sshKeys": keys})))
                .await?;
            let (address, port) = west
                .wait("ReplicationDestination", "copy", "an address", |object| {
                    Some((
                        text(object, "/status/rsync/address")?.to_owned(),
                        object.pointer("/status/rsync/port")?.as_i64()?,
                    ))
                })
                .await?;
            let peer = Peer {
                address,
                port,
                keys: String::new(),
            };
            east.apply(manually(
                source("copy", "data", &peer, json!({"sshKeys": null})),
                "once",
            ))
            .await?;
            synced(&east, "copy", "once").await?;
            let image = image_after(&west, "copy", None).await?;
            must_be_alike(&data.tree().await?, &tree_of_image(&west, &image).await?)
        },
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn rsa_keys_made_with_ssh_keygen_are_accepted() -> Result<()> {
    scenario(Cluster::shared(Who::Caller).await?, "rsa", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        let data = east.volume("data").await?;
        fill_plain(&data, 10, 3).await?;
        let scratch = tempfile::tempdir()?;
        let mut keys = serde_json::Map::new();
        for end in ["source", "destination"] {
            let file = scratch.path().join(end);
            let made = std::process::Command::new("ssh-keygen").args(["-q", "-t", "rsa", "-b", "2048", "-N", "", "-C", "", "-f"]).arg(&file).status()?;
            anyhow::ensure!(made.success(), "ssh-keygen failed");
            keys.insert(end.to_owned(), json!(std::fs::read_to_string(&file)?));
            keys.insert(format!("{end}.pub"), json!(std::fs::read_to_string(file.with_extension("pub"))?));
        }
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "my-keys"}, "stringData": keys});
        east.apply(secret.clone()).await?;
        west.apply(secret).await?;
        west.apply(destination("copy", json!({"sshKeys": "my-keys"}))).await?;
        let heard = |object: &Value| Some((text(object, "/status/rsync/address")?.to_owned(), object.pointer("/status/rsync/port")?.as_i64()?));
        let (address, port) = west.wait("ReplicationDestination", "copy", "an address", heard).await?;
        let peer = Peer { address, port, keys: "my-keys".to_owned() };
        east.apply(manually(source("copy", "data", &peer, json!({})), "once")).await?;
        synced(&east, "copy", "once").await?;
        let image = image_after(&west, "copy", None).await?;
        must_be_alike(&data.tree().await?, &tree_of_image(&west, &image).await?)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_were_made_are_kept_when_the_cluster_restarts() -> Result<()> {
    scenario(
        needs::RESTART.own(Who::Caller).await?,
        "kept",
        |stage| async move {
            let west = stage.site("west").await?;
            west.apply(destination("copy", json!({}))).await?;
            let peer = listening(&west, "copy").await?;
            let before = west.get("Secret", &peer.keys).await?;
            stage.cluster.embedded()?.stop()?;
            stage.cluster.embedded()?.restart().await?;
            let west = west.again().await?;
            let again = listening(&west, "copy").await?;
            assert_eq!(
                (again.keys.as_str(), again.address.as_str()),
                (peer.keys.as_str(), peer.address.as_str())
            );
            assert_eq!(
                west.get("Secret", &again.keys).await?.get("data"),
                before.get("data")
            );
            Ok(())
        },
    )
    .await
}
