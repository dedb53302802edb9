//! What movers' images are pulled with: the chart's Secrets, copied beside the movers.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use syncline_testkit::{Site, Who, scenario};
use syncline_tests::parts::{destination, listening};

use crate::system::System;
use crate::{needs, turn};

/// A Secret in the operator's own namespace.
const ORIGINAL: &str = "registry";
/// Its copies: VolSync's prefix and the CRC-32 of the original's name.
const COPY: &str = "volsync-pull-cda81d0a";

/// Makes the original, or gives it another password.
async fn put_original(own: &Site, password: &str) -> Result<()> {
    let access = json!({"auths": {"registry.test": {"username": "puller", "password": password}}});
    own.apply(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": ORIGINAL},
        "type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": access.to_string()},
    }))
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_charts_pull_secrets_stand_beside_the_movers_as_long_as_there_are_any() -> Result<()> {
    let _turn = turn().await;
    let place = needs::DEPLOYMENT.shared(Who::Caller).await?;
    scenario(place, "pull", |stage| async move {
        let west = stage.site("west").await?;
        let system = System::of(&stage.cluster).await?;
        put_original(system.site(), "first").await?;
        system.set("imagePullSecrets[0].name=registry").await?;
        let kept = are_kept_current(system.site(), &west).await;
        system.set("imagePullSecrets=null").await?;
        let outcome = match kept {
            Ok(()) => are_let_go(&west).await,
            failed => failed,
        };
        system.site().delete("Secret", ORIGINAL).await?;
        outcome
    })
    .await
}

async fn are_kept_current(own: &Site, west: &Site) -> Result<()> {
    for name in ["one", "two"] {
        west.apply(destination(name, json!({}))).await?;
        listening(west, name).await?;
        let account = format!("volsync-dst-{name}");
        west.wait("ServiceAccount", &account, "the copy's name", |account| {
            refers(account, "/imagePullSecrets").then_some(())
        })
        .await?;
        let job = format!("volsync-rsync-dst-{name}");
        west.wait("Job", &job, "a mover that runs", |job| {
            (job.pointer("/status/ready") == Some(&json!(1))).then_some(())
        })
        .await?;
    }
    let pods = west.list("Pod").await?;
    let pulls = |pod: &Value| refers(pod, "/spec/imagePullSecrets");
    ensure!(!pods.is_empty() && pods.iter().all(pulls), "{pods:?}");
    is_like_the_original(own, west).await?;
    put_original(own, "second").await?;
    is_like_the_original(own, west).await
}

fn refers(object: &Value, list: &str) -> bool {
    object.pointer(list) == Some(&json!([{"name": COPY}]))
}

/// Waits until the copy has the original's content and both resources for its owners.
async fn is_like_the_original(own: &Site, west: &Site) -> Result<()> {
    let original = own.get("Secret", ORIGINAL).await?;
    west.wait("Secret", COPY, "the original's content", |copy| {
        let alike = ["type", "data"]
            .iter()
            .all(|field| copy.get(field) == original.get(field));
        (alike && owners(copy) == ["one", "two"]).then_some(())
    })
    .await
}

fn owners(object: &Value) -> Vec<&str> {
    let all = object.pointer("/metadata/ownerReferences");
    let all = all.and_then(Value::as_array).into_iter().flatten();
    let mut names: Vec<&str> = all
        .filter_map(|owner| owner.get("name")?.as_str())
        .collect();
    names.sort_unstable();
    names
}

/// Without pull secrets in the chart no account refers to the copy any more, and it goes with the last resource that had it.
async fn are_let_go(west: &Site) -> Result<()> {
    for name in ["one", "two"] {
        let account = format!("volsync-dst-{name}");
        west.wait("ServiceAccount", &account, "no pull secret", |account| {
            account.get("imagePullSecrets").is_none().then_some(())
        })
        .await?;
    }
    west.delete("ReplicationDestination", "one").await?;
    west.wait("Secret", COPY, "one owner", |copy| {
        (owners(copy) == ["two"]).then_some(())
    })
    .await?;
    west.delete("ReplicationDestination", "two").await?;
    west.wait_gone("Secret", COPY).await
}
