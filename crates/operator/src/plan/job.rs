//! The Job of a run: its pod, and the arguments of the run that it keeps.

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{Container, EnvVar, PersistentVolumeClaimVolumeSource, Volume};
use serde::{Deserialize, Serialize};
use syncline_api::names::{self, Mover, Side};
use syncline_api::{env, labels};

use super::copies::Data;
use super::foreign::PROGRAM;
use super::placement::Placement;
use super::pod::{self, Parts};
use super::standing::Standing;
use super::{Input, rclone, rsync};
use crate::kinds::word_for;
use crate::subject::annotation;
use crate::validate::{Image, Method, Validated, Volume as Wish};

/// The volume with the data in a mover's pod.
pub(super) const DATA: &str = "data";
/// Annotation of a Job: the arguments of its run that matter after the mover has ended.
const RUN: &str = "syncline.dev/run";
/// Tries of a pod within one Job.
const BACKOFF_LIMIT: i32 = 2;
/// The policy with which a Job makes another pod only when the former has ended, and not as soon as it is deleted.
pub(super) const ONLY_WHAT_HAS_ENDED: &str = "Failed";

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
    /// The uid of the source whose path the run was told to take over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) take_over: Option<String>,
    /// The checksum of what was asked for, see [`fingerprint`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) asked: Option<String>,
    /// The checksum of the place in a store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) place: Option<String>,
    /// What the Secret and the certificates for a store were at its begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) configured: Option<String>,
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
            take_over: rclone::take_over(input, wish).map(str::to_owned),
            asked: Some(fingerprint(input, wish, standing)),
            place: rclone::place(input, wish),
            configured: rclone::configuration(input),
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
            take_over: None,
            asked: None,
            // Nobody noted where it went, so the next run takes it for another place.
            place: None,
            configured: None,
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
    let data = volumes.iter().find(|volume| volume.name == DATA)?;
    Some(data.persistent_volume_claim.as_ref()?.claim_name.clone())
}

/// The value of the annotation that allows an empty source, unless it was used up.
fn allowance(input: &Input<'_>) -> Option<String> {
    if input.subject.key.side == Side::Destination {
        return None;
    }
    let value = input.subject.annotations.get(labels::ALLOW_EMPTY_SOURCE)?;
    let used = input.subject.state.allowed_empty_source(input.mover());
    (used != Some(value)).then(|| value.clone())
}

/// The Job of a run with these arguments.
pub(super) fn build(input: &Input<'_>, wish: &Validated, data: &Data, standing: &Standing) -> Job {
    let side = input.subject.key.side;
    let run = Run::new(input, wish, data, standing);
    let mut metadata = input.temporary(names::job(wish.mover(), side, input.name()));
    let run = serde_json::to_string(&run).unwrap_or_default();
    metadata.annotations = Some([(RUN.to_owned(), run)].into());
    Job {
        metadata,
        spec: Some(JobSpec {
            backoff_limit: Some(BACKOFF_LIMIT),
            parallelism: Some(parallelism(input)),
            pod_replacement_policy: replaces(wish.mover()).map(str::to_owned),
            template: pod::template(input, wish, parts(input, wish, data, standing)),
            ..JobSpec::default()
        }),
        status: None,
    }
}

/// When a deleted pod is replaced. A mover of rclone works on its own, and goes on for as long as its node lets it: two of
/// them would write to one volume, of two versions. Of rsync's only the one that is connected does anything, and what is
/// deleted is behind no Service; there the cluster's default stands, as with `VolSync`, which waits for no lost node.
fn replaces(mover: Mover) -> Option<&'static str> {
    (mover == Mover::Rclone).then_some(ONLY_WHAT_HAS_ENDED)
}

/// How many pods may run: none while the user holds the transfer.
pub(super) fn parallelism(input: &Input<'_>) -> i32 {
    i32::from(!input.subject.paused())
}

fn parts(input: &Input<'_>, wish: &Validated, data: &Data, standing: &Standing) -> Parts {
    match &wish.method {
        Method::Rsync(rsync) => rsync::parts(input, (wish, rsync), data, standing),
        Method::Rclone(rclone) => rclone::parts(input, (wish, rclone), data, standing),
    }
}

/// The program of a mover's container, and its arguments.
pub(super) fn program(input: &Input<'_>) -> Container {
    let mover = input.mover().as_str();
    let side = word_for(input.subject.key.side);
    Container {
        name: mover.to_owned(),
        image: Some(input.image().to_owned()),
        command: Some(vec![PROGRAM.to_owned()]),
        args: Some(["mover", mover, side].map(str::to_owned).to_vec()),
        ..Container::default()
    }
}

/// The volume with the data.
pub(super) fn data_volume(data: &Data) -> Volume {
    Volume {
        name: DATA.to_owned(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: data.claim.clone(),
            read_only: data.read_only.then_some(true),
        }),
        ..Volume::default()
    }
}

/// An environment variable.
pub(super) fn variable(name: &str, value: impl Into<String>) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value.into()),
        value_from: None,
    }
}

/// What a source is told of its last run, so that it does not send a volume that has lost everything.
pub(super) fn guard(input: &Input<'_>) -> impl Iterator<Item = EnvVar> {
    let entries = input.subject.state.last_synced_entries(input.mover());
    let entries = entries.map(|entries| variable(env::LAST_SYNCED_ENTRIES, entries.to_string()));
    let allowed = allowance(input).map(|_| variable(env::ALLOW_EMPTY_SOURCE, "1"));
    entries.into_iter().chain(allowed)
}

/// Whether somebody wants to look at the mover before it works.
pub(super) fn debugging(input: &Input<'_>) -> Option<EnvVar> {
    let annotations = &input.subject.annotations;
    let wanted = annotations.contains_key(labels::ENABLE_DEBUG_MOVER);
    wanted.then(|| variable(env::DEBUG_MOVER, "1"))
}
