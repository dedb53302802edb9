//! What users say of movers' pods, and of the moment of a copy.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use syncline_testkit::scenario::Stage;
use syncline_testkit::{Cluster, Who, fixture, scenario};

use crate::needs;
use crate::parts::{
    condition, destination, fill_plain, image_after, is, listening, manually, must_be_alike, over,
    put, receiver, source, synced, text, tree_of_image,
};

const STATUS: &str = "volsync.backube/latest-copy-status";
const TRIGGER: &str = "volsync.backube/copy-trigger";

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_waits_for_the_users_trigger_each_time() -> Result<()> {
    scenario(Cluster::shared(Who::Caller).await?, "trigger", |stage| {
        waits_for_trigger(stage, "Snapshot")
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_waits_for_the_users_trigger_each_time() -> Result<()> {
    scenario(Cluster::shared(Who::Caller).await?, "trigger", |stage| {
        waits_for_trigger(stage, "Clone")
    })
    .await
}

async fn waits_for_trigger(stage: Stage, method: &'static str) -> Result<()> {
    let (east, west) = (stage.site("east").await?, stage.site("west").await?);
    let data = east.volume("data").await?;
    fill_plain(&data, 10, 1).await?;
    annotate(&east, json!({"volsync.backube/use-copy-trigger": ""})).await?;
    let peer = receiver(&east, &west, "copy", json!({})).await?;
    let manifest = source("copy", "data", &peer, json!({"copyMethod": method}));
    let mut image = None;
    for round in ["one", "two"] {
        east.apply(manually(manifest.clone(), round)).await?;
        copy_status(&east, "WaitingForTrigger").await?;
        let started = east.get("ReplicationSource", "copy").await?;
        assert!(
            is(&started, "Synchronizing", "True", "SyncInProgress"),
            "{started:#}"
        );
        assert!(
            east.find("PersistentVolumeClaim", "volsync-copy-src")
                .await?
                .is_none()
        );
        assert!(
            east.find("VolumeSnapshot", "volsync-copy-src")
                .await?
                .is_none()
        );
        // What is written before the trigger is in the copy.
        put(&data, "state", round).await?;
        let tree = data.tree().await?;
        annotate(&east, json!({TRIGGER: round})).await?;
        copy_status(&east, "Completed").await?;
        put(&data, "state", "too late").await?;
        synced(&east, "copy", round).await?;
        let claim = east.get("PersistentVolumeClaim", "data").await?;
        let latest = claim.pointer("/metadata/annotations/volsync.backube~1latest-copy-trigger");
        assert_eq!(latest, Some(&json!(round)));
        let next = image_after(&west, "copy", image.as_deref()).await?;
        must_be_alike(&tree, &tree_of_image(&west, &next).await?)?;
        image = Some(next);
    }
    Ok(())
}

async fn annotate(site: &syncline_testkit::Site, annotations: Value) -> Result<()> {
    let change = json!({"metadata": {"annotations": annotations}});
    site.merge("PersistentVolumeClaim", "data", change).await?;
    Ok(())
}

async fn copy_status(site: &syncline_testkit::Site, wanted: &str) -> Result<()> {
    let what = format!("a copy that is {wanted}");
    site.wait("PersistentVolumeClaim", "data", &what, |claim| {
        let annotations = claim.pointer("/metadata/annotations")?;
        (annotations.get(STATUS)? == wanted).then_some(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mover_without_rights_says_what_it_could_not_preserve() -> Result<()> {
    scenario(needs::ROOT.shared(Who::Caller).await?, "unprivileged", |stage| async move {
        let east = stage.site("east").await?;
        let west = stage.site_with("west", "restricted").await?;
        let data = east.volume("data").await?;
        fill_plain(&data, 20, 1).await?;
        let context = json!({"runAsUser": 4321, "runAsGroup": 4321, "fsGroup": 4321});
        // In the form that VolSync's definitions leave alone.
        let rights = json!({"metadata": {"annotations": {"syncline.dev/mover-security-context": context.to_string()}}});
        west.apply(over(destination("copy", json!({})), rights)).await?;
        let peer = listening(&west, "copy").await?;
        west.hand_over_secret(&peer.keys, &east).await?;
        east.apply(manually(source("copy", "data", &peer, json!({})), "once")).await?;
        let sent = synced(&east, "copy", "once").await?;
        image_after(&west, "copy", None).await?;
        let received = west.get("ReplicationDestination", "copy").await?;
        for object in [&sent, &received] {
            let told = condition(object, "Preserved").context("no condition")?;
            assert_eq!(text(told, "/reason"), Some("UnprivilegedMover"));
            let message = text(told, "/message").unwrap_or_default();
            assert!(message.contains("owners (all is uid 4321's)"), "{message}");
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn further_volumes_of_the_users_are_waited_for_and_mounted() -> Result<()> {
    scenario(Cluster::shared(Who::Caller).await?, "further", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        let data = east.volume("data").await?;
        fill_plain(&data, 5, 1).await?;
        let peer = receiver(&east, &west, "copy", json!({})).await?;
        let volumes = json!([{"mountPath": "certs/ca", "volumeSource": {"secret": {"secretName": "ca"}}}]);
        let manifest = source("copy", "data", &peer, json!({"moverVolumes": volumes}));
        east.apply(manually(manifest, "once")).await?;
        east.wait("ReplicationSource", "copy", "a word about the missing Secret", |object| {
            let message = text(condition(object, "Synchronizing")?, "/message")?;
            (message.contains("ca") && message.contains("moverVolumes")).then_some(())
        })
        .await?;
        east.apply(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ca"},
            "stringData": {"ca.crt": "not secret"}}))
            .await?;
        synced(&east, "copy", "once").await?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_nobody_may_write_is_mounted_for_reading_and_sent() -> Result<()> {
    scenario(
        Cluster::shared(Who::Caller).await?,
        "read-only",
        sends_what_is_read_only,
    )
    .await
}

async fn sends_what_is_read_only(stage: Stage) -> Result<()> {
    let (east, west) = (stage.site("east").await?, stage.site("west").await?);
    let origin = east.volume("origin").await?;
    fill_plain(&origin, 20, 4).await?;
    let tree = origin.tree().await?;
    east.apply(json!({
        "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot", "metadata": {"name": "state"},
        "spec": {"source": {"persistentVolumeClaimName": "origin"}},
    }))
    .await?;
    let state =
        json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "state"});
    let modes = json!({"spec": {"accessModes": ["ReadOnlyMany"]}});
    east.apply(over(fixture::claim("data", "1Gi", Some(state)), modes))
        .await?;
    let peer = receiver(&east, &west, "copy", json!({})).await?;
    let mut image = None;
    // The copy of such a source is as read-only as the source.
    for (method, claim) in [("Direct", "data"), ("Snapshot", "volsync-copy-src")] {
        let manifest = source("copy", "data", &peer, json!({"copyMethod": method}));
        let held = json!({"spec": {"paused": true}});
        east.apply(manually(over(manifest.clone(), held), method))
            .await?;
        east.wait(
            "Job",
            "volsync-rsync-src-copy",
            "data to read only",
            |job| {
                let pod = job.pointer("/spec/template/spec")?;
                let of = |list: &str| {
                    let all = pod.pointer(list)?.as_array()?;
                    all.iter()
                        .find(|entry| text(entry, "/name") == Some("data"))
                };
                let volume = of("/volumes")?.get("persistentVolumeClaim")?;
                let mount = of("/containers/0/volumeMounts")?.get("readOnly")?;
                let wanted = json!({"claimName": claim, "readOnly": true});
                (*volume == wanted && *mount == json!(true)).then_some(())
            },
        )
        .await?;
        east.apply(manually(manifest, method)).await?;
        synced(&east, "copy", method).await?;
        let next = image_after(&west, "copy", image.as_deref()).await?;
        must_be_alike(&tree, &tree_of_image(&west, &next).await?)?;
        image = Some(next);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_in_use_is_sent_from_the_node_of_the_pod_that_uses_it() -> Result<()> {
    scenario(
        needs::NODES.shared(Who::Caller).await?,
        "in-use",
        sends_beside_a_pod,
    )
    .await
}

async fn sends_beside_a_pod(stage: Stage) -> Result<()> {
    let (east, west) = (stage.site("east").await?, stage.site("west").await?);
    let data = east.volume("data").await?;
    fill_plain(&data, 10, 3).await?;
    let tree = data.tree().await?;
    east.apply(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "app"},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "app", "image": stage.cluster.real()?.image()?, "imagePullPolicy": "IfNotPresent",
                "command": ["sleep", "900"], "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        },
    }))
    .await?;
    let node = east
        .wait("Pod", "app", "a node", |pod| {
            text(pod, "/spec/nodeName").map(str::to_owned)
        })
        .await?;
    let class = json!({"volumeSnapshotClassName": "csi-test"});
    let peer = receiver(&east, &west, "copy", class).await?;
    let object = source("copy", "data", &peer, json!({"copyMethod": "Direct"}));
    east.apply(manually(object, "once")).await?;
    let selected = east
        .wait("Job", "volsync-rsync-src-copy", "a node", |job| {
            let selector = job.pointer("/spec/template/spec/nodeSelector")?;
            text(selector, "/kubernetes.io~1hostname").map(str::to_owned)
        })
        .await?;
    anyhow::ensure!(selected == node, "{selected} is not {node}");
    synced(&east, "copy", "once").await?;
    let image = image_after(&west, "copy", None).await?;
    must_be_alike(&tree, &tree_of_image(&west, &image).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_balancer_is_waited_for_and_its_name_published() -> Result<()> {
    scenario(needs::NO_BALANCER.shared(Who::Caller).await?, "balancer", |stage| async move {
        let west = stage.site("west").await?;
        let rsync = |annotations: Value| {
            json!({"serviceType": "LoadBalancer", "serviceAnnotations": annotations})
        };
        let (kind, name) = ("ReplicationDestination", "volsync-rsync-dst-copy");
        west.apply(destination("copy", rsync(json!({"example.test/pool": "blue"})))).await?;
        let complaint = |object: &Value| {
            let message = text(condition(object, "Synchronizing")?, "/message")?;
            (message.contains(name) && message.contains("load balancer")).then_some(())
        };
        west.wait(kind, "copy", "a word about the missing address", complaint).await?;
        assert!(west.find("Job", name).await?.is_none(), "nobody could reach this mover");
        let address = json!({"loadBalancer": {"ingress": [{"hostname": "lb.example.test", "ip": "192.0.2.9"}]}});
        west.merge_status("Service", name, json!({"status": address})).await?;
        assert_eq!(listening(&west, "copy").await?.address, "lb.example.test");
        annotated(&west, name, &json!({"example.test/pool": "blue"})).await?;
        // None given is VolSync's own; an empty map is none at all.
        west.apply(destination("copy", rsync(Value::Null))).await?;
        let volsyncs = json!({"service.beta.kubernetes.io/aws-load-balancer-type": "nlb"});
        annotated(&west, name, &volsyncs).await?;
        west.apply(destination("copy", rsync(json!({})))).await?;
        annotated(&west, name, &Value::Null).await
    })
    .await
}

async fn annotated(site: &syncline_testkit::Site, service: &str, wanted: &Value) -> Result<()> {
    let what = format!("the annotations {wanted}");
    site.wait("Service", service, &what, |object| {
        let found = object.pointer("/metadata/annotations");
        (found.unwrap_or(&Value::Null) == wanted).then_some(())
    })
    .await
}
