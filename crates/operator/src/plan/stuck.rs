//! Why a mover's pod does not come to be, does not come up, or does not come to its end. Each cause has a word of its own,
//! which its event has as reason.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::job::ONLY_WHAT_HAS_ENDED;
use super::outcome::{mover, phase_of};
use super::pod::{Rights, namespace_is_privileged, rights};
use super::{Fault, Input};
use crate::observe::Complaint;

/// How long a pod may fail to start before that is a fault. A volume that is still being made and an image that is still
/// being pulled look the same at first.
const START_WITHIN: SignedDuration = SignedDuration::from_secs(30);
/// How long a node may leave a pod's end unconfirmed.
const END_WITHIN: SignedDuration = SignedDuration::from_secs(30);
/// The cluster's complaints are no events that are watched, so what does not come to be is looked at again: as long from
/// now as it has waited already, within these bounds.
const SOONEST: SignedDuration = SignedDuration::from_secs(5);
const LATEST: SignedDuration = SignedDuration::from_mins(5);
/// What the kubelet and the scheduler say of a container that does not come up by itself, and what events say.
const WORDS: [&str; 12] = [
    "Unschedulable",
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "FailedScheduling",
    "FailedMount",
    "FailedAttachVolume",
    "FailedCreatePodSandBox",
];
/// The word for everything else.
const OTHER: &str = "MoverPodNotStarting";

/// What keeps a Job's pod, and when to look again.
pub(super) fn stuck(input: &Input<'_>, job: &Job) -> (Option<Fault>, Option<Timestamp>) {
    let held = job.spec.as_ref().and_then(|spec| spec.parallelism) == Some(0);
    let pods = &input.world.pods;
    if held {
        (None, None)
    } else if pods.is_empty() {
        let fault = input.world.complaint(&job.metadata);
        let name = job.metadata.name.as_deref().unwrap_or_default();
        (
            fault.map(|complaint| refused(input, name, complaint)),
            Some(later(input, &job.metadata)),
        )
    } else if let Some(pod) = pods.iter().find(|pod| comes_up(pod)) {
        pending(input, pod)
    } else {
        lost(input, job)
    }
}

/// Whether a pod is still to start, and not on its way out.
fn comes_up(pod: &Pod) -> bool {
    phase_of(pod) == Some("Pending") && pod.metadata.deletion_timestamp.is_none()
}

fn later(input: &Input<'_>, metadata: &ObjectMeta) -> Timestamp {
    let age = input.now().duration_since(created(input, metadata));
    input.now() + age.max(SOONEST).min(LATEST)
}

fn created(input: &Input<'_>, metadata: &ObjectMeta) -> Timestamp {
    let time = metadata.creation_timestamp.as_ref();
    time.map_or_else(|| input.now(), |time| time.0)
}

/// The Job's pod was not admitted.
fn refused(input: &Input<'_>, job: &str, complaint: &Complaint) -> Fault {
    let Some((_, rest)) = complaint.message.split_once("violates PodSecurity \"") else {
        let words = without_the_attempt(&complaint.message, job);
        return Fault::PodRefused {
            namespace: input.namespace().to_owned(),
            reason: format!("{}: {words}", complaint.reason),
        };
    };
    let (level, details) = rest.split_once('"').unwrap_or((rest, ""));
    let raise = format!(
        "either let the namespace have the level baseline (kubectl label namespace {} pod-security.kubernetes.io/enforce=baseline --overwrite)",
        input.namespace()
    );
    let cure = match input.wish.map(|wish| rights(input, wish)) {
        Ok(Rights::None) => "correct moverSecurityContext accordingly".to_owned(),
        Ok(Rights::Root(_)) if namespace_is_privileged(input) => format!(
            "{raise}, or remove its annotation volsync.backube/privileged-movers to run its movers without rights"
        ),
        _ => format!(
            "{raise}, \
             or set spec.{}.moverSecurityContext (or the annotation syncline.dev/mover-security-context) to run the mover without rights",
            input.mover().field()
        ),
    };
    Fault::PodSecurity {
        namespace: input.namespace().to_owned(),
        level: level.split(':').next().unwrap_or_default().to_owned(),
        details: details.trim_start_matches([':', ' ']).to_owned(),
        cure,
    }
}

/// The cluster's words with the Job's name for its pod's. Each attempt has a name of its own, with which the same refusal
/// would be news, a write and an event, for as long as it lasts.
fn without_the_attempt(words: &str, job: &str) -> String {
    let Some((before, rest)) = words.split_once(&format!("\"{job}-")) else {
        return words.to_owned();
    };
    match rest.split_once('"') {
        Some((_, after)) => format!("{before}\"{job}\"{after}"),
        None => words.to_owned(),
    }
}

fn pending(input: &Input<'_>, pod: &Pod) -> (Option<Fault>, Option<Timestamp>) {
    let late = created(input, &pod.metadata) + START_WITHIN;
    if input.now() < late {
        return (None, Some(late));
    }
    let fault = unbound(input).or_else(|| {
        let (word, reason) = held_up(pod).or_else(|| {
            let complaint = input.world.complaint(&pod.metadata)?;
            Some((complaint.reason.clone(), complaint.message.clone()))
        })?;
        Some(Fault::PodStuck {
            word: WORDS
                .into_iter()
                .find(|known| *known == word)
                .unwrap_or(OTHER),
            namespace: input.namespace().to_owned(),
            pod: pod.metadata.name.clone().unwrap_or_default(),
            reason: format!("{word}: {reason}"),
        })
    });
    (fault, Some(later(input, &pod.metadata)))
}

/// A claim that the pod waits for and that the cluster complains of.
fn unbound(input: &Input<'_>) -> Option<Fault> {
    let world = input.world;
    let claims = [&world.given_claim, &world.own_claim, &world.job_claim];
    claims.into_iter().flatten().find_map(|claim| {
        let complaint = world.complaint(&claim.metadata)?;
        Some(Fault::ClaimUnbound {
            namespace: input.namespace().to_owned(),
            name: claim.metadata.name.clone().unwrap_or_default(),
            reason: format!("{}: {}", complaint.reason, complaint.message),
        })
    })
}

/// Why a pending pod does not come up, as its own status says it: a word, and the words.
fn held_up(pod: &Pod) -> Option<(String, String)> {
    let waiting = mover(pod).and_then(|container| container.state.as_ref()?.waiting.as_ref());
    let words = |text: Option<&String>| {
        text.map_or_else(|| "see the pod's events".to_owned(), ToOwned::to_owned)
    };
    if let Some(waiting) = waiting
        && let Some(reason) = waiting
            .reason
            .as_deref()
            .filter(|reason| WORDS.contains(reason))
    {
        return Some((reason.to_owned(), words(waiting.message.as_ref())));
    }
    let unscheduled =
        condition(pod, "PodScheduled").filter(|condition| condition.status == "False")?;
    let reason = unscheduled.reason.as_deref().unwrap_or("Unschedulable");
    Some((reason.to_owned(), words(unscheduled.message.as_ref())))
}

fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// A pod whose node says nothing any more: it does not confirm the pod's end, or the control plane has taken the pod for
/// unready although its container runs.
fn lost(input: &Input<'_>, job: &Job) -> (Option<Fault>, Option<Timestamp>) {
    let since = input.world.pods.iter().find_map(|pod| {
        let unready = condition(pod, "Ready").filter(|ready| ready.status == "False");
        let runs = mover(pod).is_some_and(|container| {
            container
                .state
                .as_ref()
                .is_some_and(|state| state.running.is_some())
        });
        let ends = pod.metadata.deletion_timestamp.as_ref();
        let ends = ends.filter(|_| match phase_of(pod) {
            Some("Pending") => node_of(pod).is_some(),
            phase => matches!(phase, Some("Running" | "Unknown")),
        });
        let silent = unready
            .filter(|_| runs)
            .and_then(|ready| ready.last_transition_time.as_ref());
        Some((pod, ends.or(silent)?.0))
    });
    let Some((pod, since)) = since else {
        return (None, None);
    };
    let late = since + END_WITHIN;
    if input.now() < late {
        return (None, Some(late));
    }
    let name = pod.metadata.name.clone().unwrap_or_default();
    let (what, objects) = to_start_anew(job, &name);
    let fault = Fault::NodeLost {
        what,
        objects,
        namespace: input.namespace().to_owned(),
        pod: name,
        node: node_of(pod).unwrap_or_default().to_owned(),
    };
    (Some(fault), None)
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

/// What is to be deleted for another pod to start: where the Job waits for the end of the former, it holds on to that one.
fn to_start_anew(job: &Job, pod: &str) -> (&'static str, String) {
    let policy = job.spec.as_ref();
    let policy = policy.and_then(|spec| spec.pod_replacement_policy.as_deref());
    if policy == Some(ONLY_WHAT_HAS_ENDED) {
        let name = job.metadata.name.as_deref().unwrap_or_default();
        (
            "the Job and the pod are deleted",
            format!("job/{name} pod/{pod}"),
        )
    } else {
        ("the pod is deleted", format!("pod {pod}"))
    }
}
