//! Ten wrong inputs: each gives a condition that names the cause, the object and the cure, and an event. None stops the operator.

use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use syncline_testkit::scenario::Stage;
use syncline_testkit::{Cluster, Site, Who, scenario};

use crate::parts::{
    Peer, condition, fill_plain, image_after, manually, over, receiver, source, synced, text,
    told_by_event,
};

/// A persistent fault must be told within two minutes.
const CLEAR_CAP: Duration = Duration::from_secs(120);

fn nobody() -> Peer {
    Peer {
        address: "127.0.0.1".to_owned(),
        port: 2022,
        keys: "keys".to_owned(),
    }
}

/// Waits for the error and checks that it has all these parts.
pub(crate) async fn told(site: &Site, kind: &str, name: &str, parts: &[&str]) -> Result<()> {
    let what = format!("an error that has {parts:?}");
    site.within(CLEAR_CAP)
        .wait(kind, name, &what, |object| {
            let found = condition(object, "Synchronizing")
                .filter(|found| text(found, "/reason") == Some("Error"))?;
            let message = text(found, "/message")?;
            let reconciled = condition(object, "Reconciled")?;
            assert_eq!(
                (text(reconciled, "/status"), text(reconciled, "/reason")),
                (Some("False"), Some("ReconcileError")),
                "{object:#}"
            );
            parts
                .iter()
                .all(|part| message.to_lowercase().contains(&part.to_lowercase()))
                .then_some(())
        })
        .await
}

/// One scenario with a bad source.
async fn bad_source(name: &str, manifest: Value, parts: &'static [&'static str]) -> Result<()> {
    scenario(
        Cluster::shared(Who::Caller).await?,
        name,
        |stage| async move {
            let east = stage.site("east").await?;
            east.volume("data").await?;
            east.apply(manifest).await?;
            told(&east, "ReplicationSource", "copy", parts).await?;
            told_by_event(&east, "copy", "InvalidSpec").await
        },
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_movers_are_refused_by_name() -> Result<()> {
    let manifest = over(
        source("copy", "data", &nobody(), json!({})),
        json!({"spec": {"restic": {"repository": "repo", "copyMethod": "Clone"}}}),
    );
    bad_source(
        "two-movers",
        manifest,
        &[
            "only one replication method can be supplied",
            "rsync",
            "restic",
        ],
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_mover_is_refused_with_the_movers_there_are() -> Result<()> {
    let manifest = over(
        source("copy", "data", &nobody(), json!({})),
        json!({"spec": {"rsync": null}}),
    );
    bad_source(
        "no-mover",
        manifest,
        &["a replication method must be specified", "rsync"],
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mover_that_is_not_built_yet_is_named() -> Result<()> {
    let manifest = over(
        source("copy", "data", &nobody(), json!({})),
        json!({"spec": {"rsync": null, "restic": {"repository": "repo", "copyMethod": "Clone"}}}),
    );
    bad_source("not-built", manifest, &["restic"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_schedule_is_refused_with_its_text() -> Result<()> {
    let manifest = over(
        source("copy", "data", &nobody(), json!({})),
        json!({"spec": {"trigger": {"schedule": "99 * * * *"}}}),
    );
    bad_source("bad-cron", manifest, &["99 * * * *", "schedule"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_never_fires_is_refused_instead_of_looping() -> Result<()> {
    let manifest = over(
        source("copy", "data", &nobody(), json!({})),
        json!({"spec": {"trigger": {"schedule": "0 0 31 2 *"}}}),
    );
    bad_source("never", manifest, &["0 0 31 2 *", "never"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_volume_is_named() -> Result<()> {
    scenario(
        Cluster::shared(Who::Caller).await?,
        "no-pvc",
        |stage| async move {
            let west = stage.site("west").await?;
            west.apply(crate::parts::destination(
                "copy",
                json!({"destinationPVC": "not-there", "capacity": null, "accessModes": null}),
            ))
            .await?;
            told(
                &west,
                "ReplicationDestination",
                "copy",
                &["not-there", "PersistentVolumeClaim"],
            )
            .await?;
            told_by_event(&west, "copy", "PersistentVolumeClaimMissing").await
        },
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_is_named_and_its_coming_is_heard() -> Result<()> {
    scenario(
        Cluster::shared(Who::Caller).await?,
        "no-secret",
        |stage| async move {
            let (east, west) = (stage.site("east").await?, stage.site("west").await?);
            fill_plain(&east.volume("data").await?, 5, 1).await?;
            west.apply(crate::parts::destination("copy", json!({})))
                .await?;
            let peer = crate::parts::listening(&west, "copy").await?;
            east.apply(manually(source("copy", "data", &peer, json!({})), "once"))
                .await?;
            told(&east, "ReplicationSource", "copy", &["Secret", &peer.keys]).await?;
            told_by_event(&east, "copy", "SecretMissing").await?;
            west.hand_over_secret(&peer.keys, &east).await?;
            synced(&east, "copy", "once").await?;
            Ok(())
        },
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_without_a_key_is_named_with_the_key() -> Result<()> {
    scenario(Cluster::shared(Who::Caller).await?, "no-key", |stage| async move {
        let east = stage.site("east").await?;
        east.volume("data").await?;
        east.apply(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"source": "x", "source.pub": "y"}})).await?;
        east.apply(source("copy", "data", &nobody(), json!({}))).await?;
        told(&east, "ReplicationSource", "copy", &["keys", "destination.pub"]).await?;
        told_by_event(&east, "copy", "SecretIncomplete").await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_host_key_is_told_apart_from_other_failures() -> Result<()> {
    scenario(
        Cluster::shared(Who::Caller).await?,
        "host-key",
        wrong_host_key,
    )
    .await
}

async fn wrong_host_key(stage: Stage) -> Result<()> {
    let (east, west) = (stage.site("east").await?, stage.site("west").await?);
    fill_plain(&east.volume("data").await?, 5, 1).await?;
    let peer = receiver(&east, &west, "copy", json!({})).await?;
    let right = east.get("Secret", &peer.keys).await?;
    // The key of another destination: well-formed, but not this one's.
    receiver(&east, &west, "stranger", json!({})).await?;
    let stranger = east.get("Secret", "volsync-rsync-dst-src-stranger").await?;
    let wrong = stranger
        .pointer("/data/destination.pub")
        .context("no key")?
        .clone();
    east.merge(
        "Secret",
        &peer.keys,
        json!({"data": {"destination.pub": wrong}}),
    )
    .await?;
    east.apply(manually(source("copy", "data", &peer, json!({})), "once"))
        .await?;
    told(
        &east,
        "ReplicationSource",
        "copy",
        &["host key", &peer.address],
    )
    .await?;
    let object = east.get("ReplicationSource", "copy").await?;
    assert_eq!(
        text(&object, "/status/latestMoverStatus/result"),
        Some("Failed"),
        "{object:#}"
    );
    // The Job's own tries come first; then the operator counts, and waits longer each time.
    let retry = |object: &Value| {
        let failures = object.pointer("/status/retry/failures")?.as_i64()?;
        let next = text(object, "/status/retry/nextAttempt")?;
        (failures > 0 && !next.is_empty()).then_some(())
    };
    let east = east.within(CLEAR_CAP);
    east.wait(
        "ReplicationSource",
        "copy",
        "a count of its failures",
        retry,
    )
    .await?;
    // Set right, it recovers without further help.
    let key = right
        .pointer("/data/destination.pub")
        .context("no key")?
        .clone();
    let text = STANDARD.decode(key.as_str().unwrap_or_default())?;
    assert!(
        text.starts_with(b"ssh-ed25519 "),
        "{}",
        String::from_utf8_lossy(&text)
    );
    east.merge(
        "Secret",
        &peer.keys,
        json!({"data": {"destination.pub": key}}),
    )
    .await?;
    let recovered = synced(&east, "copy", "once").await?;
    assert!(
        recovered.pointer("/status/retry").is_none(),
        "{recovered:#}"
    );
    image_after(&west, "copy", None).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_cannot_be_resolved_is_named() -> Result<()> {
    scenario(
        Cluster::shared(Who::Caller).await?,
        "address",
        |stage| async move {
            let (east, west) = (stage.site("east").await?, stage.site("west").await?);
            fill_plain(&east.volume("data").await?, 5, 1).await?;
            let peer = receiver(&east, &west, "copy", json!({})).await?;
            let manifest = manually(
                source("copy", "data", &peer, json!({"address": "nowhere.invalid"})),
                "once",
            );
            east.apply(manifest).await?;
            told(&east, "ReplicationSource", "copy", &["nowhere.invalid"]).await
        },
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capacity_that_is_too_small_is_told_with_both_sizes() -> Result<()> {
    let manifest = source(
        "copy",
        "data",
        &Peer {
            keys: String::new(),
            ..nobody()
        },
        json!({"copyMethod": "Clone", "capacity": "1Mi", "sshKeys": null}),
    );
    bad_source("capacity", manifest, &["1Mi", "1Gi"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_without_a_capacity_is_told_what_it_needs() -> Result<()> {
    scenario(
        Cluster::shared(Who::Caller).await?,
        "no-capacity",
        |stage| async move {
            let west = stage.site("west").await?;
            west.apply(crate::parts::destination("copy", json!({"capacity": null})))
                .await?;
            told(
                &west,
                "ReplicationDestination",
                "copy",
                &["capacity", "destinationPVC"],
            )
            .await
        },
    )
    .await
}
