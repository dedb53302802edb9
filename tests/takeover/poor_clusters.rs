//! Clusters that lack what an operator would like to have.
//!
//! The operator's requests pass a gate that answers in the cluster's place, as an API server does that has no such group.

use anyhow::{Result, ensure};
use http::{Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use syncline_testkit::{Site, scenario};
use syncline_tests::parts::{
    condition, destination, fill_plain, listening, manually, must_be_alike, source, synced, text,
};

use crate::operators::{Operator, cluster, options};

/// Where the three kinds of snapshots are.
const SNAPSHOTS: &str = "/apis/snapshot.storage.k8s.io";

/// A client for whom the cluster has no such group.
fn without(client: &Client, group: &'static str) -> Client {
    let inner = client.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let inner = inner.clone();
        async move {
            if !request.uri().path().starts_with(group) {
                return inner.send(request).await;
            }
            let mut answer = Response::new(Body::from(b"404 page not found\n".to_vec()));
            *answer.status_mut() = StatusCode::NOT_FOUND;
            Ok(answer)
        }
    });
    Client::new(service, client.default_namespace())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_snapshots_direct_and_clone_work_and_a_snapshot_is_told_what_to_be_instead()
-> Result<()> {
    scenario(cluster().await?, "snapless", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        let client = without(&stage.cluster.client().await?, SNAPSHOTS);
        let operator = Operator::start_with(&client, options());
        let data = east.volume("data").await?;
        fill_plain(&data, 10, 1).await?;
        west.apply(destination("copy", json!({}))).await?;
        is_told(&west, "ReplicationDestination", "Direct").await?;
        west.apply(destination("copy", json!({"copyMethod": "Direct"})))
            .await?;
        let peer = listening(&west, "copy").await?;
        west.hand_over_secret(&peer.keys, &east).await?;
        east.apply(manually(
            source("copy", "data", &peer, json!({})),
            "Snapshot",
        ))
        .await?;
        is_told(&east, "ReplicationSource", "Clone or Direct").await?;
        for method in ["Direct", "Clone"] {
            data.edit(|folder| Ok(std::fs::write(folder.join(method), method)?))
                .await?;
            let manifest = source("copy", "data", &peer, json!({"copyMethod": method}));
            east.apply(manually(manifest, method)).await?;
            synced(&east, "copy", method).await?;
            let copy = west.open("volsync-copy-dst").await?;
            must_be_alike(&data.tree().await?, &copy.tree().await?)?;
        }
        let received = west.get("ReplicationDestination", "copy").await?;
        let image = received.pointer("/status/latestImage/kind");
        ensure!(image == Some(&json!("PersistentVolumeClaim")), "{received}");
        operator.stop().await
    })
    .await
}

/// Waits until a resource says that the cluster knows no snapshots, and what works instead.
async fn is_told(site: &Site, kind: &str, instead: &str) -> Result<()> {
    site.wait(kind, "copy", "a word about snapshots", |object: &Value| {
        let found = condition(object, "Synchronizing")
            .filter(|found| text(found, "/reason") == Some("Error"))?;
        let message = text(found, "/message")?;
        (message.contains("snapshot") && message.contains(instead)).then_some(())
    })
    .await
}
