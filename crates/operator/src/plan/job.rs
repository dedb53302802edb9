//! The Job of a run: its pod, and the arguments of the run that it keeps.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Container, EnvVar, EnvVarSource, ObjectFieldSelector, PersistentVolumeClaimVolumeSource,
    Volume, VolumeDevice,
};
use serde::{Deserialize, Serialize};
use syncline_api::names::{self, Mover, Side};
use syncline_api::{env, labels};

use super::Input;
use super::copies::Data;
use super::placement::Placement;
use super::pod::{self, Parts, Rights, in_memory, mount};
use super::standing::Standing;
use crate::kinds::word_for;
use crate::subject::annotation;
use crate::validate::{Image, Validated, Volume as Wish};

/// The mover's container.
pub const CONTAINER: &str = "rsync";
/// Annotation of a Job: the arguments of its run that matter after the mover has ended.
const RUN: &str = "syncline.dev/run";
/// Where the pod finds a volume that is a block device; `VolSync`'s place.
const DEVICE: &str = "/dev/block";
/// Tries of a pod within one Job.
const BACKOFF_LIMIT: i32 = 2;

/// The arguments of a run that matter after its mover has ended. They are kept with the Job, so that a run ends with the
/// arguments it started with, whatever happens to the spec meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Run {
    /// The claim that was written to or read.
    pub(super) claim: String,
    /// At a destination: whether a snapshot of it is the image.
    #[serde(default)]
    pub(super) snapshot: bool,
    /// The class of that snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) snapshot_class: Option<String>,
    /// The allowance for an empty source that the run was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) allowed_empty_source: Option<String>,
    /// The checksum of what was asked for, see [`fingerprint`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) asked: Option<String>,
}

impl Run {
    fn new(input: &Input<'_>, wish: &Validated, data: &Data, standing: &Standing) -> Self {
        let (snapshot, snapshot_class) = match &wish.volume {
            Wish::Source(_) => (false, None),
            Wish::Destination(volume) => (
                volume.image == Image::Snapshot,
                volume.snapshot_class.clone(),
            ),
        };
        Self {
            claim: data.claim.clone(),
            snapshot,
            snapshot_class,
            allowed_empty_source: allowance(input),
            asked: Some(fingerprint(input, wish, standing)),
        }
    }

    /// The run of a Job. A Job without the annotation was made by VolSync: its mounts tell the claim, and what its
    /// spec says now is the best guess at the rest.
    pub(super) fn of(job: &Job, wish: Option<&Validated>) -> Self {
        if let Some(run) =
            annotation(&job.metadata, RUN).and_then(|text| serde_json::from_str(text).ok())
        {
            return run;
        }
        let (snapshot, snapshot_class) = match wish.map(|wish| &wish.volume) {
            Some(Wish::Destination(volume)) => (
                volume.image == Image::Snapshot,
                volume.snapshot_class.clone(),
            ),
            _ => (false, None),
        };
        Self {
            claim: mounted_claim(job).unwrap_or_default(),
            snapshot,
            snapshot_class,
            allowed_empty_source: None,
            asked: None,
        }
    }
}

/// What tells one wish for a mover's pod and its volume from another. What the cluster or its webhooks made of the Job has
/// no part in it, nor where the volume happens to be in use.
pub(super) fn fingerprint(input: &Input<'_>, wish: &Validated, standing: &Standing) -> String {
    let blank = Data {
        claim: String::new(),
        read_only: false,
        block: false,
        placement: Placement::default(),
    };
    let template = pod::template(input, wish, parts(input, wish, &blank, standing));
    let template = serde_json::to_string(&template).unwrap_or_default();
    names::checksum(&format!("{template}{:?}", wish.volume))
}

/// Whether a Job is of this operator's making and not VolSync's.
pub(super) fn is_our_run(job: &Job) -> bool {
    annotation(&job.metadata, RUN).is_some()
}

/// Whether a mover's Job is of `VolSync`'s making.
pub fn is_of_volsync(job: &Job) -> bool {
    !is_our_run(job)
}

/// The claim that a Job mounts as its data.
pub fn mounted_claim(job: &Job) -> Option<String> {
    let volumes = job
        .spec
        .as_ref()?
        .template
        .spec
        .as_ref()?
        .volumes
        .as_ref()?;
    let data = volumes.iter().find(|volume| volume.name == "data")?;
    Some(data.persistent_volume_claim.as_ref()?.claim_name.clone())
}

/// The value of the annotation that allows an empty source, unless it was used up.
fn allowance(input: &Input<'_>) -> Option<String> {
    if input.subject.key.side == Side::Destination {
        return None;
    }
    let value = input.subject.annotations.get(labels::ALLOW_EMPTY_SOURCE)?;
    let used = input
        .subject
        .state
        .rsync
        .as_ref()
        .and_then(|rsync| rsync.allowed_empty_source.as_ref());
    (used != Some(value)).then(|| value.clone())
}

/// The labels by which a Service finds the mover's pod.
pub(super) fn pod_labels(side: Side, name: &str) -> BTreeMap<String, String> {
    [
        (labels::NAME.to_owned(), names::label_value(side, name)),
        (
            labels::COMPONENT.to_owned(),
            labels::COMPONENT_RSYNC.to_owned(),
        ),
        (
            labels::PART_OF.to_owned(),
            labels::PART_OF_VOLSYNC.to_owned(),
        ),
    ]
    .into()
}

/// The Job of a run with these arguments.
pub(super) fn build(input: &Input<'_>, wish: &Validated, data: &Data, standing: &Standing) -> Job {
    let side = input.subject.key.side;
    let run = Run::new(input, wish, data, standing);
    let mut metadata = input.temporary(names::job(Mover::Rsync, side, input.name()));
    let run = serde_json::to_string(&run).unwrap_or_default();
    metadata.annotations = Some([(RUN.to_owned(), run)].into());
    Job {
        metadata,
        spec: Some(JobSpec {
            backoff_limit: Some(BACKOFF_LIMIT),
            parallelism: Some(parallelism(input)),
            template: pod::template(input, wish, parts(input, wish, data, standing)),
            ..JobSpec::default()
        }),
        status: None,
    }
}

/// How many pods may run: none while the user holds the transfer.
pub(super) fn parallelism(input: &Input<'_>) -> i32 {
    i32::from(!input.subject.paused())
}

fn parts(input: &Input<'_>, wish: &Validated, data: &Data, standing: &Standing) -> Parts {
    let key = &input.subject.key;
    let mut names = vec!["root"];
    names.extend(wish.rsync.user.as_deref().filter(|user| *user != "root"));
    Parts {
        labels: pod_labels(key.side, &key.name),
        annotations: [(labels::LOGIN_NAMES.to_owned(), names.join(","))].into(),
        container: container(input, wish, data),
        volumes: volumes(input, wish, data, standing),
        service_account: standing.service_account.clone(),
        placement: data.placement.clone(),
    }
}

fn container(input: &Input<'_>, wish: &Validated, data: &Data) -> Container {
    let mut mounts = vec![
        mount("keys", "/keys", false),
        mount("tempsshdir", "/root/.ssh", false),
        mount("tempdir", "/tmp", false),
    ];
    if !data.block {
        mounts.insert(0, mount("data", "/data", data.read_only));
    }
    let device = VolumeDevice {
        name: "data".to_owned(),
        device_path: DEVICE.to_owned(),
    };
    Container {
        name: CONTAINER.to_owned(),
        image: Some(input.settings.mover_image.clone()),
        command: Some(vec!["/syncline".to_owned()]),
        args: Some(
            ["mover", "rsync", word_for(input.subject.key.side)]
                .map(str::to_owned)
                .to_vec(),
        ),
        env: Some(environment(input, wish, data)),
        volume_mounts: Some(mounts),
        volume_devices: data.block.then(|| vec![device]),
        ..Container::default()
    }
}

fn environment(input: &Input<'_>, wish: &Validated, data: &Data) -> Vec<EnvVar> {
    let variable = |name: &str, value: String| EnvVar {
        name: name.to_owned(),
        value: Some(value),
        value_from: None,
    };
    let mut all = vec![EnvVar {
        name: env::POD_IP.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: "status.podIP".to_owned(),
                api_version: None,
            }),
            ..EnvVarSource::default()
        }),
    }];
    if input.subject.key.side == Side::Source {
        let port = wish.rsync.port.unwrap_or(input.settings.rsync_port);
        all.extend(
            wish.rsync
                .address
                .clone()
                .map(|address| variable(env::DESTINATION_ADDRESS, address)),
        );
        all.push(variable(env::DESTINATION_PORT, port.to_string()));
        let entries = input
            .subject
            .state
            .rsync
            .as_ref()
            .and_then(|rsync| rsync.last_synced_entries);
        all.extend(entries.map(|entries| variable(env::LAST_SYNCED_ENTRIES, entries.to_string())));
        all.extend(allowance(input).map(|_| variable(env::ALLOW_EMPTY_SOURCE, "1".to_owned())));
    }
    if data.block {
        all.push(variable(env::BLOCK_DEVICE, DEVICE.to_owned()));
    }
    // A device has no folders.
    let path = wish.rsync.path.clone().filter(|_| !data.block);
    all.extend(path.map(|path| variable(env::DESTINATION_PATH, path)));
    all.extend(
        wish.rsync
            .user
            .clone()
            .map(|user| variable(env::DESTINATION_USER, user)),
    );
    if pod::rights(input, wish) == Rights::None {
        all.push(variable(env::PRIVILEGED_MOVER, "0".to_owned()));
    }
    if input
        .subject
        .annotations
        .contains_key(labels::ENABLE_DEBUG_MOVER)
    {
        all.push(variable(env::DEBUG_MOVER, "1".to_owned()));
    }
    all
}

fn volumes(input: &Input<'_>, wish: &Validated, data: &Data, standing: &Standing) -> Vec<Volume> {
    // The kubelet gives a Secret's files to root, and to others only by the pod's `fsGroup`. The mover copies its keys to
    // a folder of its own anyway, as ssh wants them.
    let mode = match pod::rights(input, wish) {
        Rights::Root(_) => 0o600,
        Rights::None => 0o444,
    };
    vec![
        Volume {
            name: "data".to_owned(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: data.claim.clone(),
                read_only: data.read_only.then_some(true),
            }),
            ..Volume::default()
        },
        pod::secret("keys", &standing.secret, mode),
        in_memory("tempsshdir"),
        in_memory("tempdir"),
    ]
}
