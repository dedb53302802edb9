//! The chart with `watchNamespace`: an operator of one namespace, with Roles only.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use syncline_testkit::scenario::{CAP, Stage};
use syncline_testkit::wait::{Look, wait_for};
use syncline_testkit::{Site, Who, scenario};
use syncline_tests::parts::{
    destination, fill_plain, image_after, listening, manually, must_be_alike, source, synced, text,
    tree_of_image,
};

use crate::system::{System, helm};
use crate::{needs, turn};

const RELEASE: &str = "alone";

#[tokio::test(flavor = "multi_thread")]
async fn a_release_for_one_namespace_replicates_there_without_a_right_on_the_cluster() -> Result<()>
{
    let _turn = turn().await;
    let place = needs::DEPLOYMENT.shared(Who::Caller).await?;
    scenario(place, "alone", |stage| async move {
        let system = System::of(&stage.cluster).await?;
        // The installed operator looks after all namespaces.
        system.scale(0).await?;
        let outcome = alone(&stage, &system).await;
        system.scale(1).await?;
        outcome
    })
    .await
}

async fn alone(stage: &Stage, system: &System) -> Result<()> {
    let (watched, other) = (stage.site("watched").await?, stage.site("other").await?);
    let home = stage.site_with("home", "restricted").await?;
    other.apply(destination("copy", json!({}))).await?;
    let told = install(&home, &watched, &system.image().await?)?;
    ensure!(
        told.contains("fill claims from a ReplicationDestination"),
        "{told}"
    );
    let manifest = helm(
        &home.cluster,
        &["get", "manifest", RELEASE, "--namespace", &home.namespace],
    )?;
    ensure!(!manifest.contains("kind: Cluster"), "{manifest}");

    replicates(&watched).await?;
    says_that_it_fills_no_claim(&watched).await?;
    let untouched = other.get("ReplicationDestination", "copy").await?;
    ensure!(untouched.get("status").is_none(), "{untouched}");
    helm(
        &home.cluster,
        &["uninstall", RELEASE, "--namespace", &home.namespace],
    )?;
    Ok(())
}

fn install(home: &Site, watched: &Site, image: &str) -> Result<String> {
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/helm/syncline");
    helm(
        &home.cluster,
        &[
            "install",
            RELEASE,
            chart,
            "--namespace",
            &home.namespace,
            "--wait",
            "--timeout=3m",
            "--set=manageCRDs=false",
            &format!("--set=watchNamespace={}", watched.namespace),
            &format!("--set=image.image={image}"),
        ],
    )
}

/// A whole sync, from one volume of the namespace to another.
async fn replicates(site: &Site) -> Result<()> {
    let data = site.volume("data").await?;
    fill_plain(&data, 20, 5).await?;
    let tree = data.tree().await?;
    site.apply(destination("copy", json!({}))).await?;
    let peer = listening(site, "copy").await?;
    site.apply(manually(source("copy", "data", &peer, json!({})), "once"))
        .await?;
    let sent = synced(site, "copy", "once").await?;
    let conditions = sent.pointer("/status/conditions").unwrap_or(&Value::Null);
    ensure!(
        !conditions.to_string().contains("Forbidden"),
        "{conditions}"
    );
    let image = image_after(site, "copy", None).await?;
    must_be_alike(&tree, &tree_of_image(site, &image).await?)
}

async fn says_that_it_fills_no_claim(site: &Site) -> Result<()> {
    site.apply(json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "filled"},
        "spec": {
            "storageClassName": "csi-test",
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
            "dataSourceRef": {"apiGroup": "volsync.backube", "kind": "ReplicationDestination", "name": "copy"},
        },
    }))
    .await?;
    let words = wait_for("an event that the claim is not filled", CAP, || async {
        let events = site.list("Event").await?;
        let told = events.iter().find(|event| {
            text(event, "/involvedObject/name") == Some("filled")
                && text(event, "/reason") == Some("VolSyncPopulatorError")
        });
        Ok(match told {
            Some(event) => Look::Done(text(event, "/message").map(str::to_owned)),
            None => Look::NotYet(format!("{} events", events.len())),
        })
    })
    .await?
    .context("an event without words")?;
    ensure!(
        words.contains("watches namespace") && words.contains("status.latestImage"),
        "{words}"
    );
    site.delete("PersistentVolumeClaim", "filled").await
}
