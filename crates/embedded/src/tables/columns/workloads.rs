//! Pods, Jobs and Services.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Column, age_column, at, column, list, or_none, selector, text, wide};
use crate::tables::age;

pub(super) fn pods() -> Vec<Column> {
    vec![
        column("Ready", |pod, _| {
            let ready = list(pod, "/status/containerStatuses")
                .iter()
                .filter(|status| at(status, "/ready") == json!(true))
                .count();
            json!(format!("{ready}/{}", list(pod, "/spec/containers").len()))
        }),
        column("Status", |pod, _| json!(pod_status(pod))),
        column("Restarts", |pod, now| json!(restarts(pod, now))),
        age_column(),
        wide("IP", |pod, _| {
            or_none(text(pod, "/status/podIP").to_owned())
        }),
        wide("Node", |pod, _| {
            or_none(text(pod, "/spec/nodeName").to_owned())
        }),
        wide("Nominated Node", |pod, _| {
            or_none(text(pod, "/status/nominatedNodeName").to_owned())
        }),
        wide("Readiness Gates", |_, _| json!("<none>")),
    ]
}

fn restarts(pod: &Value, now: Timestamp) -> String {
    let statuses = list(pod, "/status/containerStatuses");
    let count: i64 = statuses
        .iter()
        .filter_map(|status| at(status, "/restartCount").as_i64())
        .sum();
    let last = statuses
        .iter()
        .filter_map(|status| status.pointer("/lastState/terminated/finishedAt"))
        .max_by_key(|at| at.as_str());
    match last {
        Some(last) if count > 0 => format!("{count} ({} ago)", age::since(Some(last), now)),
        _ => count.to_string(),
    }
}

/// The word that kubectl shows: the phase, or why a container waits or ended.
fn pod_status(pod: &Value) -> String {
    let phase = text(pod, "/status/phase");
    let own = text(pod, "/status/reason");
    let mut reason = if own.is_empty() { phase } else { own }.to_owned();
    let mut running = false;
    for status in list(pod, "/status/containerStatuses").iter().rev() {
        let waiting = text(status, "/state/waiting/reason");
        let ended = text(status, "/state/terminated/reason");
        if !waiting.is_empty() {
            waiting.clone_into(&mut reason);
        } else if !ended.is_empty() {
            ended.clone_into(&mut reason);
        } else if let Some(terminated) = status.pointer("/state/terminated") {
            let signal = at(terminated, "/signal").as_i64().unwrap_or_default();
            reason = if signal == 0 {
                format!("ExitCode:{}", at(terminated, "/exitCode"))
            } else {
                format!("Signal:{signal}")
            };
        } else if at(status, "/ready") == json!(true) && status.pointer("/state/running").is_some()
        {
            running = true;
        }
    }
    if reason == "Completed" && running {
        "Running".clone_into(&mut reason);
    }
    if pod.pointer("/metadata/deletionTimestamp").is_some()
        && phase != "Failed"
        && phase != "Succeeded"
    {
        "Terminating".clone_into(&mut reason);
    }
    reason
}

pub(super) fn jobs() -> Vec<Column> {
    vec![
        column("Status", |job, _| json!(job_status(job))),
        column("Completions", |job, _| {
            let succeeded = at(job, "/status/succeeded").as_i64().unwrap_or_default();
            let parallelism = at(job, "/spec/parallelism").as_i64().unwrap_or_default();
            json!(match at(job, "/spec/completions").as_i64() {
                Some(wanted) => format!("{succeeded}/{wanted}"),
                None if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
                None => format!("{succeeded}/1"),
            })
        }),
        column("Duration", |job, now| {
            let Ok(start) = text(job, "/status/startTime").parse::<Timestamp>() else {
                return json!("");
            };
            let end = text(job, "/status/completionTime").parse().unwrap_or(now);
            json!(age::human(end.as_second() - start.as_second()))
        }),
        age_column(),
        wide("Containers", |job, _| json!(containers(job, "/name"))),
        wide("Images", |job, _| json!(containers(job, "/image"))),
        wide("Selector", |job, _| {
            or_none(selector(job.pointer("/spec/selector/matchLabels")))
        }),
    ]
}

fn job_status(job: &Value) -> &'static str {
    let is = |kind: &str| {
        list(job, "/status/conditions").iter().any(|condition| {
            text(condition, "/type") == kind && text(condition, "/status") == "True"
        })
    };
    if is("Complete") {
        "Complete"
    } else if is("Failed") {
        "Failed"
    } else if job.pointer("/metadata/deletionTimestamp").is_some() {
        "Terminating"
    } else if is("Suspended") {
        "Suspended"
    } else if is("FailureTarget") {
        "FailureTarget"
    } else if is("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

fn containers(job: &Value, field: &str) -> String {
    list(job, "/spec/template/spec/containers")
        .iter()
        .map(|container| text(container, field))
        .collect::<Vec<_>>()
        .join(",")
}

pub(super) fn services() -> Vec<Column> {
    vec![
        column("Type", |service, _| at(service, "/spec/type")),
        column("Cluster-IP", |service, _| {
            or_none(text(service, "/spec/clusterIP").to_owned())
        }),
        column("External-IP", |service, _| external(service)),
        column("Port(s)", |service, _| or_none(ports(service))),
        age_column(),
        wide("Selector", |service, _| {
            or_none(selector(service.pointer("/spec/selector")))
        }),
    ]
}

fn external(service: &Value) -> Value {
    let external: Vec<&str> = list(service, "/spec/externalIPs")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    match text(service, "/spec/type") {
        "ExternalName" => json!(text(service, "/spec/externalName")),
        "LoadBalancer" => {
            let mut found: Vec<&str> = list(service, "/status/loadBalancer/ingress")
                .iter()
                .map(|ingress| {
                    if text(ingress, "/ip").is_empty() {
                        text(ingress, "/hostname")
                    } else {
                        text(ingress, "/ip")
                    }
                })
                .collect();
            found.extend(external);
            if found.is_empty() {
                json!("<pending>")
            } else {
                json!(found.join(","))
            }
        }
        _ => or_none(external.join(",")),
    }
}

fn ports(service: &Value) -> String {
    let shown = |port: &Value| {
        let node = at(port, "/nodePort")
            .as_i64()
            .filter(|node| *node != 0)
            .map(|node| format!(":{node}"))
            .unwrap_or_default();
        format!("{}{node}/{}", at(port, "/port"), text(port, "/protocol"))
    };
    list(service, "/spec/ports")
        .iter()
        .map(shown)
        .collect::<Vec<_>>()
        .join(",")
}
