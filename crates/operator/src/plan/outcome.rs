//! How a Job stands: under way, succeeded or failed, and what its mover had to say.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};
use syncline_api::names::{Mover, Side};
use syncline_api::report::{self, MoverResult, Report};
use syncline_api::status::MoverStatus;

use super::job::is_our_run;
use super::{Fault, Input};
use crate::kinds::word_for;
use crate::quantity;

/// How a Job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Its pods are still to come to an end.
    UnderWay,
    /// A pod succeeded.
    Succeeded,
    /// All tries failed.
    Failed,
}

pub(super) fn standing(job: &Job) -> Standing {
    let Some(status) = &job.status else {
        return Standing::UnderWay;
    };
    let holds = |kind: &str| {
        status
            .conditions
            .iter()
            .flatten()
            .any(|condition| condition.type_ == kind && condition.status == "True")
    };
    let limit = job
        .spec
        .as_ref()
        .and_then(|spec| spec.backoff_limit)
        .unwrap_or(6);
    if holds("Complete") || status.succeeded.unwrap_or(0) > 0 {
        Standing::Succeeded
    } else if holds("Failed") || status.failed.unwrap_or(0) > limit {
        Standing::Failed
    } else {
        Standing::UnderWay
    }
}

/// Whether a Job has come to its end, good or bad.
pub fn has_ended(job: &Job) -> bool {
    standing(job) != Standing::UnderWay
}

/// What a mover left behind.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Words {
    /// Its report, if it left one.
    pub(super) report: Option<Report>,
    /// Its log, filtered by itself or else as it was.
    pub(super) logs: Option<String>,
    /// What the cluster says of its container's end.
    pub(super) ending: Option<String>,
    /// The uid of its pod.
    pub(super) pod: Option<String>,
}

/// What the newest pod that ended in `phase` left behind; of any phase if none did.
pub(super) fn words(input: &Input<'_>, phase: &str) -> Words {
    words_of(
        input,
        newest(input, Some(phase)).or_else(|| newest(input, None)),
    )
}

/// What is known of a success before the Job says so: the kubelet's word on the pod, or the report in the log of a mover
/// that has nothing left to do. A destination says it once more when it has taken leave of its source.
pub(super) fn early_words(input: &Input<'_>, job: &Job) -> Option<Words> {
    // What is asked for beyond a report has to be read from a log that is complete.
    if !is_our_run(job) || input.settings.mover_log.exceeds_reports() {
        return None;
    }
    let ended = newest(input, Some("Succeeded")).map(|pod| words_of(input, Some(pod)));
    let ended = ended.filter(|words| words.report.as_ref().is_some_and(is_success));
    ended.or_else(|| {
        let (pod, report) = reported_success(input)?;
        let is_last = input.world.reported.as_ref()?.last;
        if input.subject.key.side == Side::Destination && !is_last {
            return None;
        }
        Some(Words {
            logs: Some(report.logs.clone()),
            report: Some(report.clone()),
            ending: None,
            pod: pod.metadata.uid.clone(),
        })
    })
}

fn is_success(report: &Report) -> bool {
    report.result == MoverResult::Successful
}

/// The pod whose mover reported a success in its log, unless the cluster says that it failed all the same.
pub(super) fn reported_success<'a>(input: &Input<'a>) -> Option<(&'a Pod, &'a Report)> {
    let reported = input.world.reported.as_ref()?;
    let pod = input
        .world
        .pods
        .iter()
        .find(|pod| pod.metadata.uid.as_ref() == Some(&reported.pod))?;
    let failed = phase_of(pod) == Some("Failed")
        || report_of(pod).is_some_and(|report| !is_success(&report));
    (!failed && is_success(&reported.report)).then_some((pod, &reported.report))
}

/// What the newest pod that failed with a report left behind.
pub(super) fn failed_words(input: &Input<'_>) -> Option<Words> {
    let words = words_of(input, Some(newest(input, Some("Failed"))?));
    words.report.is_some().then_some(words)
}

fn newest<'a>(input: &Input<'a>, wanted: Option<&str>) -> Option<&'a Pod> {
    let matching = input
        .world
        .pods
        .iter()
        .filter(|pod| wanted.is_none_or(|phase| phase_of(pod) == Some(phase)));
    matching.max_by_key(|pod| {
        pod.metadata
            .creation_timestamp
            .as_ref()
            .map(|created| created.0)
    })
}

fn words_of(input: &Input<'_>, pod: Option<&Pod>) -> Words {
    let report = pod.and_then(report_of);
    let settings = &input.settings.mover_log;
    let ended_well = pod.and_then(phase_of) == Some("Succeeded");
    let whole = input.world.log.as_deref().map(|log| {
        if ended_well && !settings.debug {
            telling_lines(input.mover(), log)
        } else {
            log.to_owned()
        }
    });
    let logs = match &report {
        Some(report) if !settings.exceeds_reports() => Some(report.logs.clone()),
        Some(report) => whole.or_else(|| Some(report.logs.clone())),
        None => whole,
    };
    let logs = logs.map(|logs| report::tail(&logs, settings.max_bytes).to_owned());
    Words {
        report,
        logs,
        ending: pod.and_then(ending_of),
        pod: pod.and_then(|pod| pod.metadata.uid.clone()),
    }
}

/// The lines that tell most of a transfer that ended well, as `VolSync` chooses them.
fn telling_lines(mover: Mover, log: &str) -> String {
    const OF_RCLONE: [&str; 5] = [
        "Transferred:",
        "Checks:",
        "Deleted:",
        "Elapsed time:",
        "Rclone completed in",
    ];
    let telling = |line: &&str| match mover {
        Mover::Rclone => OF_RCLONE.iter().any(|words| line.starts_with(words)),
        _ => {
            (line.starts_with("sent ") && line.contains(" bytes"))
                || line.starts_with("total size")
                || line.starts_with("Rsync completed in")
        }
    };
    log.lines().filter(telling).collect::<Vec<_>>().join("\n")
}

/// The report in a pod's termination message.
pub fn report_of(pod: &Pod) -> Option<Report> {
    let terminated = mover(pod)?.state.as_ref()?.terminated.as_ref()?;
    Report::parse(terminated.message.as_deref()?).ok()
}

pub(super) fn phase_of(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.phase.as_deref()
}

pub(super) fn mover(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status
        .as_ref()?
        .container_statuses
        .as_ref()?
        .iter()
        .find(|container| mover_named(&container.name).is_some())
}

/// The mover whose container has this name. Others in the pod were added by webhooks.
fn mover_named(container: &str) -> Option<Mover> {
    Mover::ALL
        .into_iter()
        .find(|mover| mover.as_str() == container)
}

fn container(pod: &Pod) -> Option<&Container> {
    let mut all = pod.spec.as_ref()?.containers.iter();
    all.find(|found| mover_named(&found.name).is_some())
}

/// The name of the mover's container in a pod.
pub fn container_of(pod: &Pod) -> Option<&str> {
    let planned = container(pod).map(|container| container.name.as_str());
    planned.or_else(|| mover(pod).map(|status| status.name.as_str()))
}

/// The end of a pod in words, when it is the cluster that tells of it: killed for memory, evicted, its node lost.
fn ending_of(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    if let Some(reason) = &status.reason {
        let message = status.message.as_deref().unwrap_or_default();
        return Some(
            format!("its pod was ended by the cluster ({reason}) {message}")
                .trim_end()
                .to_owned(),
        );
    }
    let disrupted = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "DisruptionTarget" && condition.status == "True");
    if let Some(disrupted) = disrupted {
        let reason = disrupted.reason.as_deref().unwrap_or("DisruptionTarget");
        let message = disrupted.message.as_deref().unwrap_or_default();
        return Some(
            format!("its pod was ended by the cluster ({reason}) {message}")
                .trim_end()
                .to_owned(),
        );
    }
    let terminated = mover(pod)?.state.as_ref()?.terminated.as_ref()?;
    match terminated.reason.as_deref() {
        Some("OOMKilled") => Some(out_of_memory(pod)),
        // What the node says of a container that could not be started is not the mover's word, but the best there is.
        _ => Some(
            match terminated
                .message
                .as_deref()
                .map(str::trim)
                .filter(|words| !words.is_empty())
            {
                Some(words) => format!(
                    "it ended with exit code {}: {}",
                    terminated.exit_code,
                    report::head(words, 512)
                ),
                None => format!(
                    "it ended with exit code {} and left no report; see its log",
                    terminated.exit_code
                ),
            },
        ),
    }
}

/// What to do about a limit that was too low.
fn out_of_memory(pod: &Pod) -> String {
    let field = container_of(pod)
        .and_then(mover_named)
        .map_or("rsync", Mover::field);
    let limit = container(pod).and_then(|container| {
        let limits = container.resources.as_ref()?.limits.as_ref()?;
        limits.get("memory")
    });
    let twice = limit
        .and_then(quantity::bytes)
        .map(|bytes| bytes.saturating_mul(2) >> 20);
    match (limit, twice) {
        (Some(limit), Some(twice)) => format!(
            "it was killed for using more memory than its limit of {}; raise limits.memory in spec.{field}.moverResources, for instance to {}Mi",
            limit.0,
            twice.max(1)
        ),
        _ => format!(
            "it was killed for using more memory than allowed; raise limits.memory in spec.{field}.moverResources, or what the node has"
        ),
    }
}

impl Words {
    /// For `status.latestMoverStatus`.
    pub(super) fn status(&self, result: MoverResult) -> MoverStatus {
        MoverStatus {
            result: Some(result),
            logs: self.logs.clone().filter(|logs| !logs.is_empty()),
        }
    }

    /// The fault of a failed run.
    pub(super) fn fault(&self, input: &Input<'_>) -> Fault {
        let reported = self
            .report
            .as_ref()
            .filter(|report| report.result == MoverResult::Failed);
        let reason = reported
            .and_then(|report| report.reason.clone())
            .map(|reason| format!(" ({reason})"));
        let message = reported
            .and_then(|report| report.message.clone())
            .or_else(|| self.ending.clone());
        Fault::TransferFailed {
            side: word_for(input.subject.key.side),
            reason: reason.unwrap_or_default(),
            message: message.unwrap_or_else(|| {
                "its pod is gone and left no report; it is tried again".to_owned()
            }),
        }
    }
}

/// The pod whose mover is running.
pub(super) fn running<'a>(input: &Input<'a>) -> Option<&'a Pod> {
    input
        .world
        .pods
        .iter()
        .find(|pod| phase_of(pod) == Some("Running") && pod.metadata.deletion_timestamp.is_none())
}
