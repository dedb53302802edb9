//! After VolSync: its definitions of the kinds, its objects, its Jobs in flight.

use anyhow::{Context, Result};
use kube::api::{DynamicObject, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::{Value, json};
use syncline_testkit::wait::{Look, wait_for};
use syncline_testkit::{Site, Tree, corpus, scenario};
use syncline_tests::parts::{
    condition, image_after, is, manually, must_be_alike, over, receiver, source, synced, text,
    tree_of_image,
};
use syncline_tests::volsync::{
    finishes_and_counts, left_by_volsync, prune_to_volsyncs, refuses_an_emptied_volume,
};

use crate::operators::{Operator, STRANGER, cluster, options};

/// Our definitions of the kinds without what VolSync's do not have.
pub(crate) async fn install_volsyncs_definitions(client: &Client) -> Result<()> {
    let kind = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let api: Api<DynamicObject> = Api::all_with(
        client.clone(),
        &kube::core::ApiResource::from_gvk_with_plural(&kind, "customresourcedefinitions"),
    );
    for definition in syncline_api::crds() {
        let name = definition
            .metadata
            .name
            .clone()
            .context("a definition has a name")?;
        let mut document = serde_json::to_value(&definition)?;
        prune_to_volsyncs(&mut document)?;
        let present = api.get(&name).await?;
        let version = json!({"metadata": {"resourceVersion": present.metadata.resource_version}});
        let document: DynamicObject = serde_json::from_value(over(document, version))?;
        api.replace(&name, &PostParams::default(), &document)
            .await?;
    }
    Ok(())
}

/// Waits until an operator has sent nothing for a while after it was made to look, and tells what it wrote then.
async fn rests(operator: &Operator, site: &Site, objects: &[(&str, &str)]) -> Result<Vec<String>> {
    let before = operator.sent.writes().len();
    for (kind, name) in objects {
        let looks = operator.sent.count();
        let label = json!({"metadata": {"labels": {"test": format!("look-{looks}")}}});
        site.merge(kind, name, label).await?;
        wait_for("a look at the resource", site.cap, || async {
            let now = operator.sent.count();
            Ok(if now >= looks + 10 {
                Look::Done(())
            } else {
                Look::NotYet(format!("{} requests", now - looks))
            })
        })
        .await?;
    }
    Ok(operator.sent.writes().split_off(before))
}

#[tokio::test(flavor = "multi_thread")]
async fn under_volsyncs_definitions_runs_end_at_rest_and_an_emptied_source_is_still_refused()
-> Result<()> {
    scenario(cluster().await?, "pruned", |stage| async move {
        install_volsyncs_definitions(&stage.cluster.client().await?).await?;
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        let operator = Operator::start(&stage.cluster, options()).await?;
        let data = east.volume("data").await?;
        data.edit(|folder| corpus::plain(folder, 20, 1)).await?;
        let tree = data.tree().await?;
        let peer = receiver(&east, &west, "copy", json!({})).await?;
        let manifest = source("copy", "data", &peer, json!({"copyMethod": "Direct"}));
        east.apply(manually(manifest.clone(), "first")).await?;
        synced(&east, "copy", "first").await?;
        let image = image_after(&west, "copy", None).await?;
        must_be_alike(&tree, &tree_of_image(&west, &image).await?)?;
        east.wait("ReplicationSource", "copy", "come to rest", |object| {
            is(object, "Synchronizing", "False", "WaitingForManual").then_some(())
        })
        .await?;
        assert_eq!(
            rests(&operator, &east, &[("ReplicationSource", "copy")]).await?,
            [""; 0]
        );

        refuses_an_emptied_volume(&east, manifest, &data).await?;
        operator.stop().await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_volsync_in_flight_is_left_to_finish_and_counted_once() -> Result<()> {
    scenario(cluster().await?, "inflight", |stage| async move {
        let site = stage.site("east").await?;
        let data = site.volume("data").await?;
        data.edit(|folder| corpus::plain(folder, 5, 1)).await?;
        let job = left_by_volsync(&site, STRANGER).await?;
        let operator = Operator::start(&stage.cluster, options()).await?;
        let told = |object: &Value| {
            let found = condition(object, "Synchronizing")?;
            (text(found, "/reason") == Some("SyncInProgress")
                && found.get("observedGeneration").is_some())
            .then_some(())
        };
        site.wait("ReplicationSource", "db", "been looked at", told)
            .await?;
        let kept = site.get("Job", "volsync-rsync-src-db").await?;
        assert_eq!(kept.pointer("/metadata/uid"), job.pointer("/metadata/uid"));
        assert_eq!(kept.get("spec"), job.get("spec"), "the Job is not touched");
        finishes_and_counts(&site, &data).await?;
        site.wait_gone("Job", "volsync-rsync-src-db").await?;
        let jobs = operator
            .sent
            .writes()
            .into_iter()
            .filter(|write| write.starts_with("PATCH") && write.contains("/jobs/"));
        assert_eq!(
            jobs.collect::<Vec<_>>(),
            [""; 0],
            "nothing is transferred again"
        );
        operator.stop().await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replication_carries_on_with_the_same_keys_image_and_times_when_its_operator_changes()
-> Result<()> {
    scenario(cluster().await?, "carry", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        let first = Operator::start(&stage.cluster, options()).await?;
        let data = east.volume("data").await?;
        data.edit(|folder| corpus::plain(folder, 10, 1)).await?;
        let peer = receiver(&east, &west, "copy", json!({})).await?;
        let manifest = source("copy", "data", &peer, json!({"copyMethod": "Direct"}));
        east.apply(manually(manifest.clone(), "first")).await?;
        synced(&east, "copy", "first").await?;
        let image = image_after(&west, "copy", None).await?;
        east.wait("ReplicationSource", "copy", "come to rest", |object| {
            is(object, "Synchronizing", "False", "WaitingForManual").then_some(())
        })
        .await?;
        first.stop().await?;
        let stripped = as_volsync_writes_it(&east).await?;
        let keys = west.get("Secret", &peer.keys).await?;

        let second = Operator::start(&stage.cluster, options()).await?;
        let looked = |object: &Value| {
            condition(object, "Synchronizing")?
                .get("observedGeneration")
                .map(|_| object.clone())
        };
        let seen = east
            .wait("ReplicationSource", "copy", "been looked at", looked)
            .await?;
        assert_eq!(
            seen.pointer("/status/lastSyncTime"),
            stripped.pointer("/status/lastSyncTime")
        );
        assert_eq!(text(&seen, "/status/lastManualSync"), Some("first"));
        let wrote_job = second
            .sent
            .writes()
            .into_iter()
            .any(|write| write.contains("/jobs/volsync-rsync-src-copy"));
        assert!(!wrote_job, "nothing is transferred again");
        let peer_now = west.get("Secret", &peer.keys).await?;
        assert_eq!(peer_now.get("data"), keys.get("data"));
        let listed = west.get("ReplicationDestination", "copy").await?;
        assert_eq!(
            text(&listed, "/status/latestImage/name"),
            Some(image.as_str())
        );

        data.edit(|folder| Ok(std::fs::write(folder.join("new"), "content")?))
            .await?;
        let tree: Tree = data.tree().await?;
        east.apply(manually(manifest, "second")).await?;
        synced(&east, "copy", "second").await?;
        let next = image_after(&west, "copy", Some(&image)).await?;
        must_be_alike(&tree, &tree_of_image(&west, &next).await?)?;
        second.stop().await
    })
    .await
}

/// The status as VolSync leaves it when it has had the resource: without our fields, and with conditions of no generation.
async fn as_volsync_writes_it(site: &Site) -> Result<Value> {
    let condition = json!({"type": "Synchronizing", "status": "False", "reason": "WaitingForManual",
        "message": "Waiting for manual trigger", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let status = json!({"status": {"conditions": [condition], "retry": null, "progress": null,
        "rsync": {"lastSyncedEntries": null, "allowedEmptySource": null, "port": null}}});
    site.merge_status("ReplicationSource", "copy", status).await
}
