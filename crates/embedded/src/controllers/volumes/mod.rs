//! Claims and volumes: a claim gets a volume that exists for it or is made for it, and both end in order.
//!
//! Events, annotations, finalizers and messages are those of the volume controllers of Kubernetes and of the external
//! provisioner, as recorded in lifecycles.jsonl. The provisioner is this controller too, for classes that name it.
//!
//! Capacity is what claims ask for and volumes say; nothing enforces it, because a volume is a directory.

mod bind;
mod provision;
mod release;
mod source;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use syncline_volumes::{Copied, Settled, Volumes};

use super::objects::{is_going, merge, merge_status, optional};
use super::queue::{self, Key, Seen, Trigger, watch};
use super::snapshots::kinds::VolumeSnapshot;
use super::{ADOPTED, CONSISTENCY, Context, DRIVER, UNSETTLED};
use crate::node::events::{Recorder, Severity};
use crate::node::quantity;

const CLAIM_PROTECTION: &str = "kubernetes.io/pvc-protection";
const VOLUME_PROTECTION: &str = "kubernetes.io/pv-protection";
/// On a claim while volumes are being cloned from it.
const CLONING: &str = "provisioner.storage.kubernetes.io/cloning-protection";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
const PROVISIONER: [&str; 2] = [
    "volume.beta.kubernetes.io/storage-provisioner",
    "volume.kubernetes.io/storage-provisioner",
];
/// On a claim that waited for its first pod: where that is to run.
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";

/// What is looked after.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Claim(Key),
    Volume(String),
}

/// Why a look ended early; it is repeated.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error(transparent)]
    Volumes(#[from] syncline_volumes::Error),
    #[error("a copy was broken off: {0}")]
    Broken(#[from] tokio::task::JoinError),
}

/// Where the data of a volume is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A volume of the cluster's own folder.
    Own(String),
    /// Somebody else's directory.
    Adopted(PathBuf),
}

/// Where a persistent volume's data is.
pub(super) fn place_of(volumes: &Volumes, volume: &PersistentVolume) -> Place {
    let path = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.host_path.as_ref())
        .map(|host| PathBuf::from(&host.path));
    let name = volume.name_any();
    let own = [volumes.volume_path(&name), volumes.disk_path(&name)];
    match path {
        Some(path) if !own.contains(&path) => Place::Adopted(path),
        _ => Place::Own(volume.name_any()),
    }
}

/// Whether the claim has its volume.
pub(super) fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    phase(claim) == "Bound"
}

/// What a copy tells of itself in annotations of the object that it was made for; null removes an earlier one.
pub(super) fn consistency_annotations(copied: &Copied) -> Value {
    let unsettled = match &copied.settled {
        Settled::Yes => Value::Null,
        Settled::No { count, sample } => {
            let noun = if *count == 1 { "entry" } else { "entries" };
            json!(format!(
                "{count} {noun} changed during the last of {} passes: {}",
                copied.passes,
                sample.join(", ")
            ))
        }
    };
    json!({ CONSISTENCY: copied.consistency.as_str(), UNSETTLED: unsettled })
}

/// Whether the claim is for a block device: a file here, which pods see as the device.
fn is_block(claim: &PersistentVolumeClaim) -> bool {
    let spec = claim.spec.as_ref();
    spec.and_then(|spec| spec.volume_mode.as_deref()) == Some("Block")
}

fn phase(claim: &PersistentVolumeClaim) -> &str {
    claim
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("Pending")
}

/// What a claim asks for, in its own words and in bytes.
fn request(claim: &PersistentVolumeClaim) -> Option<(String, u64)> {
    let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    let text = requests.get("storage")?.0.clone();
    let bytes = quantity::bytes(&text)?;
    Some((text, bytes))
}

fn storage(
    capacity: Option<&BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>,
) -> u64 {
    capacity
        .and_then(|all| all.get("storage"))
        .and_then(|size| quantity::bytes(&size.0))
        .unwrap_or(0)
}

struct Controller {
    context: Context,
    binder: Recorder,
    provisioner: Recorder,
}

/// Looks after all claims and volumes until the stop.
pub(super) async fn run(context: &Context) {
    let recorder = |component| {
        Recorder::new(
            context.client.clone(),
            Arc::clone(&context.clock),
            component,
        )
    };
    let controller = Controller {
        context: context.clone(),
        binder: recorder("persistentvolume-controller"),
        provisioner: recorder(DRIVER),
    };
    let controller = &controller;
    let look = move |subject| async move {
        match subject {
            Subject::Claim(key) => controller.claim(&key).await,
            Subject::Volume(name) => controller.volume(&name).await,
        }
    };
    queue::run(
        context.clock.as_ref(),
        &context.stop,
        triggers(&context.client),
        look,
    )
    .await;
}

fn triggers(client: &Client) -> Vec<Trigger<Subject>> {
    let asked = client.clone();
    let claims = watch(Api::<PersistentVolumeClaim>::all(client.clone())).then(move |seen| {
        let client = asked.clone();
        async move { concerned_by_claim(client, seen).await }
    });
    let asked = client.clone();
    let volumes = watch(Api::<PersistentVolume>::all(client.clone())).then(move |seen| {
        let client = asked.clone();
        async move { concerned_by_volume(client, seen.into_inner()).await }
    });
    let asked = client.clone();
    let classes = watch(Api::<StorageClass>::all(client.clone())).then(move |_| {
        let client = asked.clone();
        async move { pending(&Api::all(client), |_| true).await }
    });
    let asked = client.clone();
    let snapshots = watch(Api::<VolumeSnapshot>::all(client.clone())).then(move |seen| {
        let client = asked.clone();
        async move {
            let snapshot = seen.into_inner();
            let (namespace, name) = (
                snapshot.namespace().unwrap_or_default(),
                snapshot.name_any(),
            );
            pending(&Api::namespaced(client, &namespace), |claim| {
                source::is(claim, "VolumeSnapshot", &name)
            })
            .await
        }
    });
    let pods = watch(Api::<Pod>::all(client.clone())).map(|seen| {
        let pod = seen.into_inner();
        let namespace = pod.namespace().unwrap_or_default();
        claims_of(&pod)
            .map(|claim| Subject::Claim((namespace.clone(), claim.to_owned())))
            .collect()
    });
    vec![
        claims.boxed(),
        volumes.boxed(),
        classes.boxed(),
        snapshots.boxed(),
        pods.boxed(),
    ]
}

fn key_of(claim: &PersistentVolumeClaim) -> Subject {
    Subject::Claim((claim.namespace().unwrap_or_default(), claim.name_any()))
}

/// The names of the claims that a pod mounts.
fn claims_of(pod: &Pod) -> impl Iterator<Item = &str> {
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    volumes
        .filter_map(|volume| volume.persistent_volume_claim.as_ref())
        .map(|claim| claim.claim_name.as_str())
}

/// Claims that have no volume yet and concern the caller.
async fn pending(
    api: &Api<PersistentVolumeClaim>,
    concerned: impl Fn(&PersistentVolumeClaim) -> bool,
) -> Vec<Subject> {
    let list = api
        .list(&ListParams::default())
        .await
        .map(|list| list.items)
        .unwrap_or_default();
    list.iter()
        .filter(|claim| !is_bound(claim) && concerned(claim))
        .map(key_of)
        .collect()
}

/// The claims that say that they have a volume.
async fn holding(api: &Api<PersistentVolumeClaim>, volume: &str) -> Vec<PersistentVolumeClaim> {
    let list = api
        .list(&ListParams::default())
        .await
        .map(|list| list.items)
        .unwrap_or_default();
    let named = |claim: &PersistentVolumeClaim| {
        let spec = claim.spec.as_ref();
        spec.and_then(|spec| spec.volume_name.as_deref()) == Some(volume)
    };
    list.into_iter().filter(named).collect()
}

/// Whether the reference is to another claim than this.
fn is_other(claim: &PersistentVolumeClaim, reference: Option<&ObjectReference>) -> bool {
    reference.is_some_and(|reference| reference.uid.is_some() && reference.uid != claim.uid())
}

/// The claim itself, its volume, what it is cloned from, and what is cloned from it.
async fn concerned_by_claim(client: Client, seen: Seen<PersistentVolumeClaim>) -> Vec<Subject> {
    let claim = seen.into_inner();
    let (namespace, name) = (claim.namespace().unwrap_or_default(), claim.name_any());
    let mut subjects = pending(&Api::namespaced(client, &namespace), |other| {
        source::is(other, "PersistentVolumeClaim", &name)
    })
    .await;
    subjects.push(key_of(&claim));
    let volume = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_name.clone());
    subjects.extend(volume.map(Subject::Volume));
    if let Some(origin) = source::of(&claim).filter(|origin| origin.kind == "PersistentVolumeClaim")
    {
        subjects.push(Subject::Claim((namespace, origin.name.clone())));
    }
    subjects
}

/// The volume itself, the claim that it is for, and claims that wait for any volume or for this one.
async fn concerned_by_volume(client: Client, volume: PersistentVolume) -> Vec<Subject> {
    let name = volume.name_any();
    let mut subjects = vec![Subject::Volume(name.clone())];
    let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.clone());
    // One that had it until it was moved to another.
    subjects.extend(
        holding(&Api::all(client.clone()), &name)
            .await
            .into_iter()
            .filter(|claim| is_other(claim, reference.as_ref()))
            .map(|claim| key_of(&claim)),
    );
    if let Some(reference) = reference {
        let key = (
            reference.namespace.unwrap_or_default(),
            reference.name.unwrap_or_default(),
        );
        subjects.push(Subject::Claim(key));
    } else if !is_going(&volume) {
        subjects.extend(pending(&Api::all(client), |_| true).await);
    }
    subjects
}

impl Controller {
    fn claims(&self, namespace: &str) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.context.client.clone(), namespace)
    }

    fn volumes(&self) -> Api<PersistentVolume> {
        Api::all(self.context.client.clone())
    }

    async fn claim(&self, (namespace, name): &Key) -> Result<(), Fault> {
        let Some(claim) = optional(self.claims(namespace).get(name).await)? else {
            return Ok(());
        };
        self.free_source(&claim).await?;
        if is_going(&claim) {
            return self.release_claim(&claim).await;
        }
        let named = claim
            .spec
            .as_ref()
            .and_then(|spec| spec.volume_name.clone());
        match (phase(&claim), named) {
            ("Bound", Some(volume)) => self.keep(&claim, &volume).await,
            (_, Some(volume)) => self.bind_named(&claim, &volume).await,
            (_, None) => self.find_or_make(&claim).await,
        }
    }

    /// A bound claim: it may have grown, or lost its volume.
    async fn keep(&self, claim: &PersistentVolumeClaim, volume: &str) -> Result<(), Fault> {
        let (namespace, name) = (claim.namespace().unwrap_or_default(), claim.name_any());
        let Some(volume) = optional(self.volumes().get(volume).await)? else {
            let lost = json!({ "status": { "phase": "Lost" } });
            merge_status(&self.claims(&namespace), &name, &lost).await?;
            let message = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
            self.binder
                .record(claim, Severity::Warning, "ClaimLost", message)
                .await;
            return Ok(());
        };
        let reference = volume
            .spec
            .as_ref()
            .and_then(|spec| spec.claim_ref.as_ref());
        if is_other(claim, reference) {
            let lost = json!({ "status": { "phase": "Lost" } });
            merge_status(&self.claims(&namespace), &name, &lost).await?;
            let message = "Two claims are bound to the same volume, this one is bound incorrectly";
            self.binder
                .record(claim, Severity::Warning, "ClaimMisbound", message)
                .await;
            return Ok(());
        }
        let has = storage(
            claim
                .status
                .as_ref()
                .and_then(|status| status.capacity.as_ref()),
        );
        let Some((text, wanted)) = request(claim).filter(|(_, wanted)| *wanted > has) else {
            return Ok(());
        };
        if !is_own(&volume) {
            return Ok(());
        }
        let message = if is_block(claim) {
            let (volumes, name) = (self.context.volumes.clone(), volume.name_any());
            tokio::task::spawn_blocking(move || volumes.grow_disk(&name, wanted)).await??;
            "the file behind the device has grown; pods see it at once"
        } else {
            "a directory has no size of its own: the new capacity holds at once"
        };
        let size = json!({ "capacity": { "storage": text } });
        merge(
            &self.volumes(),
            &volume.name_any(),
            &json!({ "spec": size }),
        )
        .await?;
        merge_status(&self.claims(&namespace), &name, &json!({ "status": size })).await?;
        self.provisioner
            .record(claim, Severity::Normal, "VolumeResizeSuccessful", message)
            .await;
        Ok(())
    }
}

/// Whether this provisioner made the volume.
fn is_own(volume: &PersistentVolume) -> bool {
    volume
        .annotations()
        .get(PROVISIONED_BY)
        .is_some_and(|by| by == DRIVER)
        && !volume.annotations().contains_key(ADOPTED)
}
