//! The Node object.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim};
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

use super::references::{HOST_ADDRESS, NODE_NAME};
use crate::clock::Clock;

/// What the node offers, as quantities. Nothing of it is enforced.
pub(crate) fn capacity() -> &'static BTreeMap<String, String> {
    static CAPACITY: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let total = meminfo
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"));
        let kibibytes = total
            .and_then(|rest| rest.split_whitespace().next())
            .unwrap_or("0");
        BTreeMap::from([
            ("cpu".to_owned(), cpus.to_string()),
            ("memory".to_owned(), format!("{kibibytes}Ki")),
            ("pods".to_owned(), "1000".to_owned()),
        ])
    });
    &CAPACITY
}

/// Makes the Node object, or brings it up to date.
pub(crate) async fn register(client: &Client, clock: &dyn Clock) -> kube::Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    if nodes.get_opt(NODE_NAME).await?.is_none() {
        let labels = json!({
            "kubernetes.io/hostname": NODE_NAME,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": architecture(),
        });
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": { "name": NODE_NAME, "labels": labels },
            "spec": {},
        });
        let node = serde_json::from_value(node).map_err(kube::Error::SerdeError)?;
        nodes.create(&PostParams::default(), &node).await?;
    }
    let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(clock.now());
    let ready = json!({
        "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "the embedded node is ready",
        "lastHeartbeatTime": now, "lastTransitionTime": now,
    });
    let uname = rustix::system::uname();
    let status = json!({ "status": {
        "capacity": capacity(),
        "allocatable": capacity(),
        "conditions": [ready],
        "addresses": [
            { "type": "InternalIP", "address": HOST_ADDRESS },
            { "type": "Hostname", "address": NODE_NAME },
        ],
        "nodeInfo": {
            "architecture": architecture(), "operatingSystem": "linux", "osImage": "the host's",
            "kernelVersion": uname.release().to_string_lossy(),
            "kubeletVersion": concat!("v", env!("CARGO_PKG_VERSION"), "-syncline"),
            "kubeProxyVersion": "", "containerRuntimeVersion": concat!("syncline://", env!("CARGO_PKG_VERSION")),
            "bootID": "", "machineID": "", "systemUUID": "",
        },
    }});
    nodes
        .patch_status(NODE_NAME, &PatchParams::default(), &Patch::Merge(&status))
        .await?;
    Ok(())
}

/// As Go, and so Kubernetes, names it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Why a claim keeps a pod from the node, in the scheduler's words; `None` when it does not.
pub(crate) fn unschedulable(name: &str, claim: Option<&PersistentVolumeClaim>) -> Option<String> {
    let Some(claim) = claim else {
        return Some(format!(
            "0/1 nodes are available: persistentvolumeclaim \"{name}\" not found. not found"
        ));
    };
    if claim.metadata.deletion_timestamp.is_some() {
        return Some(format!(
            "0/1 nodes are available: persistentvolumeclaim \"{name}\" is being deleted."
        ));
    }
    let phase = claim
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    match phase {
        Some("Bound") => None,
        Some("Lost") => Some(format!(
            "0/1 nodes are available: persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume \"{}\".",
            claim
                .spec
                .as_ref()
                .and_then(|spec| spec.volume_name.as_deref())
                .unwrap_or_default()
        )),
        _ => Some(
            "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found"
                .to_owned(),
        ),
    }
}
