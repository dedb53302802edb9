//! The pods of movers, alike for all of them: what the user says of them, what they may do, and what they mount.
//!
//! A mover brings its [`Parts`]; everything else follows from the resource and its namespace. Names are `VolSync`'s, since
//! people's policies match on them.

mod security;
mod volumes;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use syncline_api::labels;

use super::Input;
use super::placement::Placement;
use crate::validate::{MoverPod, Validated};

pub(crate) use security::lets_movers_be_root;
pub(super) use security::{Rights, namespace_is_privileged, rights};
pub(super) use volumes::{certificate, check_extra, in_memory, mount, secret};

/// Annotation of a mover's pod: the resource it works for, as `<kind>/<name>`.
pub const RESOURCE: &str = "syncline.dev/resource";

/// What a mover brings to its pod.
#[derive(Clone, Debug, Default)]
pub(super) struct Parts {
    /// Labels that the mover's Service finds the pod by; they go before the user's.
    pub(super) labels: BTreeMap<String, String>,
    /// Annotations.
    pub(super) annotations: BTreeMap<String, String>,
    /// Its container, without resources and security context.
    pub(super) container: Container,
    /// Its volumes.
    pub(super) volumes: Vec<Volume>,
    /// The service account.
    pub(super) service_account: String,
    /// Where it has to run.
    pub(super) placement: Placement,
}

/// The template of a mover's pod.
pub(super) fn template(input: &Input<'_>, wish: &Validated, parts: Parts) -> PodTemplateSpec {
    let rights = rights(input, wish);
    PodTemplateSpec {
        metadata: Some(metadata(input, &wish.pod, &parts)),
        spec: Some(spec(&wish.pod, parts, rights)),
    }
}

/// The mode of a Secret's files. The kubelet gives them to root, and to others only by the pod's `fsGroup`; movers copy what
/// programs want to themselves to a folder of their own anyway.
pub(super) fn secret_mode(input: &Input<'_>, wish: &Validated) -> i32 {
    match rights(input, wish) {
        Rights::Root(_) => 0o600,
        Rights::None => 0o444,
    }
}

fn metadata(input: &Input<'_>, pod: &MoverPod, parts: &Parts) -> ObjectMeta {
    let key = &input.subject.key;
    let mut all = pod.labels.clone();
    all.extend(parts.labels.clone());
    all.insert(
        labels::CREATED_BY.to_owned(),
        labels::CREATED_BY_VOLSYNC.to_owned(),
    );
    let mut annotations = parts.annotations.clone();
    annotations.insert(
        RESOURCE.to_owned(),
        format!("{}/{}", crate::kinds::kind_of(key.side), key.name),
    );
    ObjectMeta {
        labels: Some(all),
        annotations: Some(annotations),
        ..ObjectMeta::default()
    }
}

fn spec(pod: &MoverPod, parts: Parts, rights: Rights) -> PodSpec {
    let Parts {
        mut container,
        mut volumes,
        service_account,
        placement,
        ..
    } = parts;
    container.resources.clone_from(&pod.resources);
    container.security_context = Some(security::context(rights, pod.security_context.as_ref()));
    let mounts = container.volume_mounts.get_or_insert_default();
    mounts.extend(pod.volumes.iter().map(volumes::extra_mount));
    volumes.extend(pod.volumes.iter().map(volumes::extra));
    let hostname = placement.hostname;
    PodSpec {
        containers: vec![container],
        volumes: Some(volumes),
        restart_policy: Some("Never".to_owned()),
        service_account_name: Some(service_account),
        // The mover asks nothing of the API server; whoever breaks into it must not find a credential.
        automount_service_account_token: Some(false),
        security_context: Some(pod.security_context.clone().unwrap_or_default()),
        node_selector: hostname.map(|name| [("kubernetes.io/hostname".to_owned(), name)].into()),
        tolerations: placement.tolerations,
        affinity: pod.affinity.clone(),
        ..PodSpec::default()
    }
}
