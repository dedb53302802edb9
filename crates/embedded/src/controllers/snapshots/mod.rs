//! Snapshots: a `VolumeSnapshot` gets a `VolumeSnapshotContent` and an image of its claim's volume.
//!
//! Order of events, finalizers, names and messages are those of the snapshot controller and its CSI side-car, as
//! recorded in lifecycles.jsonl. Two deviations: both roles are this controller, and a failed copy of the data is
//! told in `status.error` and tried again with a growing pause.

mod contents;
pub(crate) mod kinds;
mod make;

use std::sync::Arc;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;

use self::kinds::{VolumeSnapshot, VolumeSnapshotClass, VolumeSnapshotContent};
use super::objects::{is_going, merge_status, optional, remove_finalizers};
use super::queue::{self, Key, Seen, Trigger, watch};
use super::{Context, DRIVER};
use crate::node::events::{Recorder, Severity};

/// On a claim while snapshots of it are being made.
const CLAIM_IN_USE: &str = "snapshot.storage.kubernetes.io/pvc-as-source-protection";
/// On a snapshot: a volume may be being made from it.
const AS_SOURCE: &str = "snapshot.storage.kubernetes.io/volumesnapshot-as-source-protection";
/// On a snapshot that has a content.
const BOUND: &str = "snapshot.storage.kubernetes.io/volumesnapshot-bound-protection";
/// On the content of a snapshot.
const CONTENT_BOUND: &str = "snapshot.storage.kubernetes.io/volumesnapshotcontent-bound-protection";
const BEING_CREATED: &str = "snapshot.storage.kubernetes.io/volumesnapshot-being-created";
const BEING_DELETED: &str = "snapshot.storage.kubernetes.io/volumesnapshot-being-deleted";
const IS_DEFAULT: &str = "snapshot.storage.kubernetes.io/is-default-class";

/// What is looked after.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Snapshot(Key),
    Content(String),
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

struct Snapshots {
    context: Context,
    recorder: Recorder,
}

/// Looks after all snapshots until the stop.
pub(super) async fn run(context: &Context) {
    let recorder = Recorder::new(
        context.client.clone(),
        Arc::clone(&context.clock),
        "snapshot-controller",
    );
    let controller = Snapshots {
        context: context.clone(),
        recorder,
    };
    let controller = &controller;
    let look = move |subject| async move {
        match subject {
            Subject::Snapshot(key) => controller.snapshot(&key).await,
            Subject::Content(name) => controller.content(&name).await,
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
    let snapshots = watch(Api::<VolumeSnapshot>::all(client.clone()));
    let snapshots = snapshots.map(|seen| {
        let snapshot = seen.into_inner();
        let content = snapshot
            .content()
            .map(|content| Subject::Content(content.to_owned()));
        content.into_iter().chain([key_of(&snapshot)]).collect()
    });
    let contents = watch(Api::<VolumeSnapshotContent>::all(client.clone()));
    let contents = contents.map(|seen| {
        let content = seen.into_inner();
        let snapshot = &content.spec.volume_snapshot_ref;
        let key = (
            snapshot.namespace.clone().unwrap_or_default(),
            snapshot.name.clone().unwrap_or_default(),
        );
        vec![Subject::Content(content.name_any()), Subject::Snapshot(key)]
    });
    let asked = client.clone();
    let claims = watch(Api::<PersistentVolumeClaim>::all(client.clone())).then(move |seen| {
        let client = asked.clone();
        async move {
            let Seen::Present(claim) = seen else {
                return Vec::new();
            };
            let name = claim.name_any();
            let namespace = claim.namespace().unwrap_or_default();
            waiting(&Api::namespaced(client, &namespace), |snapshot| {
                snapshot.claim() == Some(&name)
            })
            .await
        }
    });
    let asked = client.clone();
    let classes = watch(Api::<VolumeSnapshotClass>::all(client.clone())).then(move |_| {
        let client = asked.clone();
        async move { waiting(&Api::all(client), |_| true).await }
    });
    vec![
        snapshots.boxed(),
        contents.boxed(),
        claims.boxed(),
        classes.boxed(),
    ]
}

fn key_of(snapshot: &VolumeSnapshot) -> Subject {
    Subject::Snapshot((
        snapshot.namespace().unwrap_or_default(),
        snapshot.name_any(),
    ))
}

/// Snapshots that are not ready and concern the caller.
async fn waiting(
    api: &Api<VolumeSnapshot>,
    concerned: impl Fn(&VolumeSnapshot) -> bool,
) -> Vec<Subject> {
    let list = api
        .list(&ListParams::default())
        .await
        .map(|list| list.items)
        .unwrap_or_default();
    list.iter()
        .filter(|snapshot| !snapshot.is_ready() && concerned(snapshot))
        .map(key_of)
        .collect()
}

impl Snapshots {
    fn snapshots(&self, namespace: &str) -> Api<VolumeSnapshot> {
        Api::namespaced(self.context.client.clone(), namespace)
    }

    fn contents(&self) -> Api<VolumeSnapshotContent> {
        Api::all(self.context.client.clone())
    }

    fn claims(&self, namespace: &str) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.context.client.clone(), namespace)
    }

    async fn snapshot(&self, (namespace, name): &Key) -> Result<(), Fault> {
        let Some(snapshot) = optional(self.snapshots(namespace).get(name).await)? else {
            return Ok(());
        };
        if is_going(&snapshot) {
            self.release(&snapshot).await
        } else if snapshot.is_ready() {
            self.release_claim(&snapshot).await
        } else if snapshot.spec.source.volume_snapshot_content_name.is_some() {
            self.bind_existing(&snapshot).await
        } else {
            self.make(&snapshot).await
        }
    }

    /// Lets the claim go when nothing is being made of it any more.
    async fn release_claim(&self, snapshot: &VolumeSnapshot) -> Result<(), Fault> {
        let (Some(claim), Some(namespace)) = (snapshot.claim(), snapshot.namespace()) else {
            return Ok(());
        };
        let claims = self.claims(&namespace);
        let Some(claim) = optional(claims.get(claim).await)? else {
            return Ok(());
        };
        if !claim
            .finalizers()
            .iter()
            .any(|finalizer| finalizer == CLAIM_IN_USE)
        {
            return Ok(());
        }
        let others = self
            .snapshots(&namespace)
            .list(&ListParams::default())
            .await?;
        let in_use = others.iter().any(|other| {
            let same = other.claim() == snapshot.claim() && other.uid() != snapshot.uid();
            same && !other.is_ready() && !is_going(other) && other.content().is_some()
        });
        if !in_use {
            remove_finalizers(&claims, &claim, &[CLAIM_IN_USE]).await?;
        }
        Ok(())
    }

    /// Tells of a failure in the status, once, and as an Event.
    async fn refuse(
        &self,
        snapshot: &VolumeSnapshot,
        reason: &str,
        message: &str,
    ) -> Result<(), Fault> {
        let told = snapshot
            .status
            .as_ref()
            .and_then(|status| status.error.as_ref());
        if told.and_then(|error| error.message.as_deref()) == Some(message) {
            return Ok(());
        }
        let api = self.snapshots(&snapshot.namespace().unwrap_or_default());
        let error = json!({ "message": message, "time": self.context.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string() });
        merge_status(
            &api,
            &snapshot.name_any(),
            &json!({ "status": { "error": error } }),
        )
        .await?;
        self.recorder
            .record(snapshot, Severity::Warning, reason, message)
            .await;
        Ok(())
    }

    /// The class of a new snapshot; `None` when that was refused.
    async fn class(&self, snapshot: &VolumeSnapshot) -> Result<Option<VolumeSnapshotClass>, Fault> {
        let classes: Api<VolumeSnapshotClass> = Api::all(self.context.client.clone());
        if let Some(name) = &snapshot.spec.volume_snapshot_class_name {
            let class = optional(classes.get(name).await)?;
            if class.is_none() {
                let message = format!(
                    "Failed to get snapshot class with error volumesnapshotclass.snapshot.storage.k8s.io \"{name}\" not found"
                );
                self.refuse(snapshot, "GetSnapshotClassFailed", &message)
                    .await?;
            }
            return Ok(class);
        }
        let all = classes.list(&ListParams::default()).await?;
        let marked = |class: &VolumeSnapshotClass| {
            class.driver == DRIVER
                && class
                    .annotations()
                    .get(IS_DEFAULT)
                    .is_some_and(|value| value == "true")
        };
        let mut defaults: Vec<VolumeSnapshotClass> = all.into_iter().filter(marked).collect();
        let problem = match defaults.len() {
            0 => "cannot find default snapshot class".to_owned(),
            1 => return Ok(defaults.pop()),
            count => format!("{count} default snapshot classes were found"),
        };
        let message = format!("Failed to set default snapshot class with error {problem}");
        self.refuse(snapshot, "SetDefaultSnapshotClassFailed", &message)
            .await?;
        Ok(None)
    }
}
