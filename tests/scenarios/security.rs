//! What a namespace allows its pods, and what users say of them.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use syncline_testkit::cluster::Kind;
use syncline_testkit::scenario::Stage;
use syncline_testkit::tree::Ignore;
use syncline_testkit::wait::{Look, wait_for};
use syncline_testkit::{Cluster, Site, Who, corpus, scenario};

use crate::needs;
use crate::parts::{
    Peer, condition, destination, fill_hostile, image_after, listening, manually, must_be_alike,
    over, source, synced, text, tree_of_image,
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

/// VolSync's capabilities for rsync.
const VOLSYNCS: [&str; 7] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "SETGID",
    "SETUID",
    "SYS_CHROOT",
];

/// What a user may say of a mover's pod, with rights that a privileged namespace does without.
fn wishes() -> Value {
    json!({
        "moverServiceAccount": "own",
        "moverResources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "1Gi"}},
        "moverPodLabels": {"example.test/team": "blue", "app.kubernetes.io/created-by": "nobody"},
        "moverAffinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]}]}]}}},
        "moverSecurityContext": {"runAsUser": USER, "runAsNonRoot": true},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_can_be_said_of_a_pod_holds_at_once_in_a_privileged_namespace_behind_a_node_port()
-> Result<()> {
    let cluster = Cluster::shared(Who::Caller).await?;
    scenario(cluster, "wishes", |stage| async move {
        let (east, west) = (stage.site("east").await?, stage.site("west").await?);
        let data = east.volume("data").await?;
        fill_hostile(&stage.cluster, &data).await?;
        let tree = data.tree().await?;
        for site in [&east, &west] {
            let privileged =
                json!({"metadata": {"annotations": {"volsync.backube/privileged-movers": "true"}}});
            site.merge("Namespace", &site.namespace, privileged).await?;
            site.apply(
                json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "own"}}),
            )
            .await?;
        }
        let service = json!({"serviceType": "NodePort"});
        west.apply(destination("copy", over(wishes(), service)))
            .await?;
        let peer = listening(&west, "copy").await?;
        west.hand_over_secret(&peer.keys, &east).await?;
        let received = pod_of(&west, "volsync-rsync-dst-copy").await?;
        is_as_wished(&received, received.get("spec").context("no spec")?)?;
        is_behind_a_node_port(&west, &peer).await?;

        let manifest = manually(source("copy", "data", &peer, wishes()), "once");
        east.apply(over(manifest.clone(), json!({"spec": {"paused": true}})))
            .await?;
        let held = east
            .wait("Job", "volsync-rsync-src-copy", "been made", |job| {
                Some(job.clone())
            })
            .await?;
        let template = held.pointer("/spec/template").context("no template")?;
        is_as_wished(template, template.get("spec").context("no spec")?)?;
        east.apply(manifest).await?;
        synced(&east, "copy", "once").await?;
        let image = image_after(&west, "copy", None).await?;
        // Owners and all: the movers were root.
        must_be_alike(&tree, &tree_of_image(&west, &image).await?)?;
        for (site, name) in [(&east, "volsync-src-copy"), (&west, "volsync-dst-copy")] {
            ensure!(
                site.find("ServiceAccount", name).await?.is_none(),
                "{name} was made in vain"
            );
        }
        Ok(())
    })
    .await
}

/// The pod of a Job.
async fn pod_of(site: &Site, job: &str) -> Result<Value> {
    wait_for(&format!("a pod of {job}"), site.cap, || async {
        let pods = site.list("Pod").await?;
        let found = pods.iter().find(|pod| {
            let owner = text(pod, "/metadata/ownerReferences/0/name");
            owner == Some(job)
        });
        Ok(found.map_or_else(
            || Look::NotYet(format!("{} pods", pods.len())),
            |pod| Look::Done(pod.clone()),
        ))
    })
    .await
}

/// Whether a pod is what [`wishes`] and its namespace's annotation make it.
fn is_as_wished(pod: &Value, spec: &Value) -> Result<()> {
    let wished = wishes();
    let container = spec.pointer("/containers/0").context("no container")?;
    ensure!(text(spec, "/serviceAccountName") == Some("own"), "{spec}");
    ensure!(
        spec.get("affinity") == wished.get("moverAffinity"),
        "{spec}"
    );
    ensure!(
        container.get("resources") == wished.get("moverResources"),
        "{container}"
    );
    let label = |name: &str| text(pod, &format!("/metadata/labels/{name}"));
    ensure!(label("example.test~1team") == Some("blue"), "{pod}");
    ensure!(
        label("app.kubernetes.io~1created-by") == Some("volsync"),
        "a user's label went before VolSync's: {pod}"
    );
    ensure!(
        spec.get("securityContext") == wished.get("moverSecurityContext"),
        "{spec}"
    );
    let context = container.get("securityContext").context("no context")?;
    let rights = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"add": VOLSYNCS, "drop": ["ALL"]},
        "privileged": false,
        "readOnlyRootFilesystem": true,
        "runAsNonRoot": false,
        "runAsUser": 0,
    });
    ensure!(*context == rights, "{context}");
    Ok(())
}

/// As with VolSync, what is published of such a Service is its address in the cluster.
async fn is_behind_a_node_port(site: &Site, peer: &Peer) -> Result<()> {
    let service = site.get("Service", "volsync-rsync-dst-copy").await?;
    ensure!(
        text(&service, "/spec/type") == Some("NodePort"),
        "{service}"
    );
    let port = service.pointer("/spec/ports/0/nodePort");
    let port = port.and_then(Value::as_i64).unwrap_or_default();
    // The embedded cluster has no nodes whose ports it could open.
    ensure!(
        port > 0 || site.cluster.kind() == Kind::Embedded,
        "no port of the nodes: {service}"
    );
    ensure!(
        text(&service, "/spec/clusterIP") == Some(&peer.address)
            && service.pointer("/spec/ports/0/port") == Some(&json!(peer.port)),
        "{peer:?} is not {service}"
    );
    Ok(())
}
