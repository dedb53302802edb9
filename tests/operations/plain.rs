//! The plain YAML instead of the chart.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use syncline_testkit::cluster::SYSTEM;
use syncline_testkit::scenario::Stage;
use syncline_testkit::{Site, Who, fixture, scenario};
use syncline_tests::parts::{destination, listening, text};

use crate::release::{Away, DEFINITIONS, definition, must_be_the_same};
use crate::system::System;
use crate::{needs, turn};

const PLAIN: &str = include_str!("../../deploy/install.yaml");
/// What stays when the rest is taken away: other tests have resources of the kinds, and the namespace is the cluster's.
const KEPT: [&str; 2] = ["Namespace", "CustomResourceDefinition"];

#[tokio::test(flavor = "multi_thread")]
async fn resources_outlive_their_release_and_the_plain_yaml_goes_on_with_them() -> Result<()> {
    let _turn = turn().await;
    let place = needs::DEPLOYMENT.shared(Who::Caller).await?;
    scenario(place, "plainly", |stage| async move {
        let site = stage.site("west").await?;
        site.apply(destination("copy", json!({}))).await?;
        listening(&site, "copy").await?;
        let system = System::of(&stage.cluster).await?;
        let image = system.image().await?;
        let chart = Away::take(&stage).await?;
        let outcome = goes_on(&stage, &system, &image, &site).await;
        let removed = remove(&stage, &system).await;
        let back = chart.bring_back();
        outcome.and(removed).and(back)
    })
    .await
}

async fn goes_on(stage: &Stage, system: &System, image: &str, site: &Site) -> Result<()> {
    for name in DEFINITIONS {
        definition(stage.cluster.real()?, name)?;
    }
    let left = site.get("ReplicationDestination", "copy").await?;
    install(stage, image)?;
    system.scale(1).await?;
    site.apply(destination("fresh", json!({}))).await?;
    listening(site, "fresh").await?;
    let now = site.get("ReplicationDestination", "copy").await?;
    must_be_the_same(&now, &left)
}

/// Installs it as its first lines say, with the image that the cluster has. The field manager is helm's, since the next one to
/// write the definitions is, and they would be left with two owners.
fn install(stage: &Stage, image: &str) -> Result<()> {
    let (_, rest) = PLAIN
        .split_once("image: \"")
        .context("the plain YAML names no image")?;
    let (published, _) = rest.split_once('"').context("an image without an end")?;
    write_and(
        stage,
        &PLAIN.replace(published, image),
        &["apply", "--server-side", "--field-manager=helm"],
    )
}

async fn remove(stage: &Stage, system: &System) -> Result<()> {
    let goes = |document: &Value| !text(document, "/kind").is_some_and(|kind| KEPT.contains(&kind));
    let gone: Vec<Value> = fixture::documents(PLAIN)?
        .into_iter()
        .filter(goes)
        .collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": gone});
    // The operator goes before its rights do.
    let scaled = system.scale(0).await;
    write_and(stage, &list.to_string(), &["delete", "--ignore-not-found"])?;
    let label = "pod-security.kubernetes.io/enforce-";
    let real = stage.cluster.real()?;
    real.kubectl_says(&["label", "namespace", SYSTEM, label])?;
    scaled
}

/// Gives kubectl this text as a file.
fn write_and(stage: &Stage, text: &str, arguments: &[&str]) -> Result<()> {
    let file = stage.cluster.scratch().join("plain.yaml");
    std::fs::write(&file, text)?;
    let file = file.to_str().context("a path that is no text")?;
    let real = stage.cluster.real()?;
    real.kubectl_says(&[arguments, &["--filename", file]].concat())?;
    Ok(())
}
