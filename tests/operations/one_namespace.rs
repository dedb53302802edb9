//! The chart with `watchNamespace`: an operator of one namespace, with Roles only.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use syncline_api::names;
use syncline_operator::permissions::{Feature, PERMISSIONS, Permission};
use syncline_testkit::scenario::{CAP, Stage};
use syncline_testkit::wait::{Look, wait_for};
use syncline_testkit::{Site, Who, scenario};
use syncline_tests::audit;
use syncline_tests::parts::{
    destination, fill_plain, image_after, listening, manually, must_be_alike, source, synced, text,
    tree_of_image,
};

use crate::release::install_for;
use crate::system::{System, helm};
use crate::{needs, turn};

const RELEASE: &str = "alone";
/// What the chart says that images are pulled with.
const PULL: &str = "registry";

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
    home.apply(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": PULL}, "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": "{\"auths\":{}}"}}))
        .await?;
    let pull = format!("imagePullSecrets[0].name={PULL}");
    let image = system.image().await?;
    let told = install_for((&home, &watched), RELEASE, &image, &pull)?;
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
    has_copied_the_pull_secret(&home, &watched).await?;
    says_that_it_fills_no_claim(&watched).await?;
    let untouched = other.get("ReplicationDestination", "copy").await?;
    ensure!(untouched.get("status").is_none(), "{untouched}");
    helm(
        &home.cluster,
        &["uninstall", RELEASE, "--namespace", &home.namespace],
    )?;
    Ok(())
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

/// The movers' account names a copy of the pull secret, and the operator needed each right that it has on the original.
async fn has_copied_the_pull_secret(home: &Site, watched: &Site) -> Result<()> {
    let copy = names::pull_secret(PULL);
    watched.get("Secret", &copy).await?;
    let account = watched.get("ServiceAccount", "volsync-dst-copy").await?;
    let named = account.pointer("/imagePullSecrets/0/name");
    ensure!(named == Some(&json!(copy)), "{account}");
    let user = format!("system:serviceaccount:{}:", home.namespace);
    let requests = audit::requests(home.cluster.real()?, &user)?;
    let at_home = requests.iter().filter(|request| {
        text(request, "/user/username").is_some_and(|name| name.starts_with(&user))
            && text(request, "/objectRef/namespace") == Some(&home.namespace)
    });
    let used = audit::uses(at_home);
    let seen = |row: &&Permission| row.feature == Feature::PullSecrets && row.unseen.is_none();
    for row in PERMISSIONS.iter().filter(seen) {
        for verb in row.verbs {
            let wanted = (
                (*verb).to_owned(),
                row.group.to_owned(),
                row.resource.to_owned(),
            );
            ensure!(
                used.contains(&wanted),
                "{wanted:?} was granted in vain: {used:?}"
            );
        }
    }
    Ok(())
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
