//! A mover's image that is not Syncline's, known by what it owes: its program is `/syncline`, and that leaves a report.
//!
//! No name tells whose an image is, and a trial run of its own would start a pod for nothing each time. Instead the Job
//! itself is harmless: its command is an absolute path that only Syncline's image has, so nothing of another image is ever
//! executed. The first pod shows it; the run ends there and then, and no other resource tries that image for a while.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use syncline_api::report::{ParseReportError, Report, head};

use super::outcome::mover;
use super::{Fault, Input, job::is_our_run};

/// How container runtimes say that the image has no such file.
const ABSENT: [&str; 3] = ["no such file", "not found", "cannot find"];
/// What the kubelet says of a container that the runtime could not start.
const NOT_STARTED: [&str; 4] = [
    "StartError",
    "ContainerCannotRun",
    "CreateContainerError",
    "RunContainerError",
];
/// The program that each of our Jobs runs.
pub(super) const PROGRAM: &str = "/syncline";

/// What shows that the image of this Job is not Syncline's, if anything does. `VolSync`'s own Jobs owe nothing.
pub(super) fn fault(input: &Input<'_>, job: &Job) -> Option<Fault> {
    if !is_our_run(job) {
        return None;
    }
    let evidence = input.world.pods.iter().find_map(evidence_in)?;
    Some(Fault::foreign_image(
        input.mover(),
        image_of(job).unwrap_or_default(),
        evidence,
    ))
}

/// The image of a Job's mover.
pub(super) fn image_of(job: &Job) -> Option<String> {
    let pod = job.spec.as_ref()?.template.spec.as_ref()?;
    pod.containers.first()?.image.clone()
}

fn evidence_in(pod: &Pod) -> Option<String> {
    let state = mover(pod)?.state.as_ref()?;
    if let Some(waiting) = &state.waiting {
        return not_started(waiting.reason.as_deref(), waiting.message.as_deref());
    }
    let ended = state.terminated.as_ref()?;
    not_started(ended.reason.as_deref(), ended.message.as_deref()).or_else(|| no_report(ended))
}

fn not_started(reason: Option<&str>, message: Option<&str>) -> Option<String> {
    let (reason, message) = (reason?, message?);
    let said = message.to_lowercase();
    let absent = said.contains(PROGRAM) && ABSENT.iter().any(|words| said.contains(words));
    (NOT_STARTED.contains(&reason) && absent).then(|| format!("it has no {PROGRAM}"))
}

/// A mover that ends well without a report has not done what was asked for.
fn no_report(ended: &ContainerStateTerminated) -> Option<String> {
    if ended.exit_code != 0 {
        return None;
    }
    match Report::parse(ended.message.as_deref().unwrap_or_default()) {
        Ok(_) => None,
        Err(error @ ParseReportError::OtherVersion { .. }) => Some(error.to_string()),
        Err(ParseReportError::NotAReport { .. }) => {
            let said = ended.message.as_deref().map_or("", str::trim);
            let said = if said.is_empty() {
                "nothing at all".to_owned()
            } else {
                format!("{:?}", head(said, 128))
            };
            Some(format!(
                "its program ended well and left {said} instead of a report"
            ))
        }
    }
}
