//! Where a mover has to run that uses a volume which others use at the same time.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Toleration};

use super::{Fault, Input};
use crate::observe::uses;
use crate::validate::MoverPod;

/// The label by which nodes are selected.
const HOSTNAME: &str = "kubernetes.io/hostname";

/// A mover's node, if it cannot be any.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Placement {
    /// The value of [`HOSTNAME`] of the node.
    pub(super) hostname: Option<String>,
    /// The tolerations of the pod that runs there.
    pub(super) tolerations: Option<Vec<Toleration>>,
}

/// The node on which a pod uses `claim`: of a running pod before a pending one. A volume that many nodes can mount
/// leaves the choice to the scheduler.
pub(super) fn beside_users(
    input: &Input<'_>,
    claim: &PersistentVolumeClaim,
) -> Result<Placement, Fault> {
    let modes = access_modes(claim);
    if modes.iter().any(|mode| mode == "ReadWriteMany") || modes == ["ReadOnlyMany"] {
        return Ok(Placement::default());
    }
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    let with_phase = |phase: &str| {
        input
            .world
            .users
            .iter()
            .find(|pod| has_phase(pod, phase) && node_of(pod).is_some() && uses(pod, name))
    };
    let Some(pod) = with_phase("Running").or_else(|| with_phase("Pending")) else {
        return Ok(Placement::default());
    };
    let name = node_of(pod).unwrap_or_default();
    // A node that is gone has taken its pod along; the API server just does not know yet.
    let Some(node) = input
        .world
        .nodes
        .iter()
        .find(|node| node.metadata.name.as_deref() == Some(name))
    else {
        return Ok(Placement::default());
    };
    match node
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(HOSTNAME))
    {
        Some(hostname) => Ok(Placement {
            hostname: Some(hostname.clone()),
            tolerations: pod.spec.as_ref().and_then(|spec| spec.tolerations.clone()),
        }),
        None => Err(Fault::NodeWithoutHostname {
            node: name.to_owned(),
            namespace: input.namespace().to_owned(),
            pod: pod.metadata.name.clone().unwrap_or_default(),
        }),
    }
}

/// The place of the volume itself, or else that of the first of the user's further volumes that is in use.
pub(super) fn beside_all(
    input: &Input<'_>,
    first: Placement,
    pod: &MoverPod,
) -> Result<Placement, Fault> {
    let mut placement = first;
    for claim in pod
        .claims()
        .filter_map(|name| input.world.further.claim(name))
    {
        if placement.hostname.is_none() {
            placement = beside_users(input, claim)?;
        }
    }
    Ok(placement)
}

/// What a claim may be used for: what it got, or else what it asks for.
pub(super) fn access_modes(claim: &PersistentVolumeClaim) -> Vec<String> {
    let got = claim
        .status
        .as_ref()
        .and_then(|status| status.access_modes.clone())
        .filter(|modes| !modes.is_empty());
    got.or_else(|| claim.spec.as_ref()?.access_modes.clone())
        .unwrap_or_default()
}

fn has_phase(pod: &Pod, phase: &str) -> bool {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        == Some(phase)
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec
        .as_ref()?
        .node_name
        .as_deref()
        .filter(|name| !name.is_empty())
}
