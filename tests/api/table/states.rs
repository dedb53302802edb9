//! The states of objects in words, without what is each run's own.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

use super::lives::Lives;

/// What the names of those rows begin with that hold Events.
const OF_EVENTS: &str = "events of ";

/// One thing that was seen.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Whose it is, for instance `Pod/ok-x7k2p` or `events of Job/ok by job-controller`.
    whose: String,
    /// A generated name and what it is generated from.
    generated: Option<(String, String)>,
    state: Option<String>,
}

/// Reads an event of a watch; nothing when it belongs to another namespace.
pub(crate) fn read(event: &Value, namespace: &str) -> Option<Seen> {
    let object = &event["object"];
    let kind = object["kind"].as_str()?;
    let name = object["metadata"]["name"].as_str()?;
    let deleted = event["type"] == "DELETED";
    let generated = object["metadata"]["generateName"]
        .as_str()
        .map(|from| (name.to_owned(), from.trim_end_matches('-').to_owned()));
    let mut whose = format!("{kind}/{name}");
    let belongs = match kind {
        "PersistentVolume" => Some((&object["spec"]["claimRef"], "volume of")),
        "VolumeSnapshotContent" => Some((&object["spec"]["volumeSnapshotRef"], "content of")),
        _ => None,
    };
    if let Some((to, what)) = belongs {
        if to["namespace"] != namespace {
            return None;
        }
        whose = format!("{what} {}", to["name"].as_str()?);
    }
    if kind == "Event" {
        if deleted {
            return None;
        }
        return (!is_of_the_moment(object)).then(|| said(object));
    }
    let state = if deleted {
        Some("gone".to_owned())
    } else {
        state_of(kind, object)
    };
    let deleting = !object["metadata"]["deletionTimestamp"].is_null() && !deleted;
    let state = state.map(|state| {
        if deleting {
            format!("{state}, deleting")
        } else {
            state
        }
    });
    Some(Seen {
        whose,
        generated,
        state,
    })
}

/// Whether an Event tells of how busy the cluster was, and not of what becomes of things.
fn is_of_the_moment(event: &Value) -> bool {
    let message = event["message"].as_str().unwrap_or_default();
    match event["reason"].as_str() {
        // Two controllers that delete the same thing at once: now and then one finds it gone.
        Some("SnapshotContentObjectDeleteError") => true,
        // The kubelet has not yet been sent what the pod's own volumes are made of, or the API server has not yet seen
        // that the pod is this kubelet's and refuses it the claim; it tries again.
        Some("FailedMount") => [
            "cache: timed out waiting for the condition",
            "no relationship found between node",
        ]
        .iter()
        .any(|words| message.contains(words)),
        _ => false,
    }
}

/// Whether what was found are the recorded Events in their order, and between them nothing but warnings.
pub(crate) fn only_warns_of_more(row: &str, recorded: &[String], found: &[String]) -> bool {
    let mut to_come = recorded.iter().peekable();
    let more = found
        .iter()
        .filter(|event| to_come.next_if_eq(event).is_none())
        .all(|event| event.starts_with("Warning "));
    row.starts_with(OF_EVENTS) && more && to_come.next().is_none()
}

fn said(event: &Value) -> Seen {
    let about = &event["involvedObject"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut component = text(&event["source"]["component"]);
    if component.is_empty() {
        component = text(&event["reportingComponent"]);
    }
    // A provisioner calls itself by its driver's name and a generated one of its own.
    let component = component.split('_').next().unwrap_or_default().to_owned();
    Seen {
        whose: format!(
            "{OF_EVENTS}{}/{} by {component}",
            text(&about["kind"]),
            text(&about["name"])
        ),
        generated: None,
        state: Some(format!(
            "{} {}: {}",
            text(&event["type"]),
            text(&event["reason"]),
            text(&event["message"])
        )),
    }
}

/// A state in words; nothing for what lies between two states.
fn state_of(kind: &str, object: &Value) -> Option<String> {
    let status = &object["status"];
    match kind {
        "Job" => Some(job(status)),
        "Pod" => pod(status),
        "PersistentVolumeClaim" => claim(object),
        "PersistentVolume" => volume(status),
        // What a content holds is taken out of its status a moment before it goes.
        "VolumeSnapshotContent"
            if !object["metadata"]["deletionTimestamp"].is_null()
                && status["readyToUse"] != true =>
        {
            None
        }
        _ => Some(snapshot(status)),
    }
}

fn job(status: &Value) -> String {
    let mut words = Vec::new();
    for count in ["active", "failed", "succeeded"] {
        if let Some(number) = status[count].as_u64().filter(|number| *number > 0) {
            words.push(format!("{count} {number}"));
        }
    }
    words.extend(conditions(status));
    if words.is_empty() {
        "nothing yet".to_owned()
    } else {
        words.join(", ")
    }
}

/// Conditions that hold, with their reasons and messages.
fn conditions(status: &Value) -> Vec<String> {
    let all = status["conditions"].as_array().into_iter().flatten();
    all.filter(|condition| condition["status"] == "True")
        .map(|condition| {
            let part = |name: &str| condition[name].as_str().unwrap_or_default().to_owned();
            let said = [part("type"), part("reason"), part("message")];
            said.into_iter()
                .filter(|text| !text.is_empty())
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect()
}

/// A pod that has not begun is `Pending` and why; the steps of the scheduler and the kubelet between are left out, as is
/// the moment at which a container has ended and its pod not yet.
fn pod(status: &Value) -> Option<String> {
    let phase = status["phase"].as_str()?;
    let containers: Vec<String> = status["containerStatuses"]
        .as_array()
        .into_iter()
        .flatten()
        .map(container)
        .collect();
    if phase == "Running" && containers.iter().any(|text| text.contains("ended")) {
        return None;
    }
    let mut words = vec![phase.to_owned()];
    words.extend(containers.into_iter().filter(|text| !text.is_empty()));
    if phase == "Pending" {
        let all = status["conditions"].as_array().into_iter().flatten();
        let refused = all.filter(|condition| {
            condition["type"] == "PodScheduled" && condition["status"] == "False"
        });
        words.extend(refused.map(|condition| {
            let part = |name: &str| condition[name].as_str().unwrap_or_default();
            format!("{} {}", part("reason"), part("message"))
        }));
    } else {
        words.extend(conditions(status));
    }
    Some(words.join(", "))
}

fn container(status: &Value) -> String {
    let state = &status["state"];
    if let Some(ended) = state["terminated"].as_object() {
        let message = ended
            .get("message")
            .and_then(Value::as_str)
            .unwrap_or_default();
        return format!(
            "ended {} {} {message}",
            ended["exitCode"],
            ended["reason"].as_str().unwrap_or_default()
        )
        .trim_end()
        .to_owned();
    }
    match state["waiting"]["reason"].as_str() {
        None | Some("ContainerCreating") => String::new(),
        Some(reason) => format!(
            "{reason} {}",
            state["waiting"]["message"].as_str().unwrap_or_default()
        ),
    }
}

/// A claim that is bound may be shown pending once more by a writer who has not seen it yet.
fn claim(object: &Value) -> Option<String> {
    let status = &object["status"];
    let phase = status["phase"].as_str().unwrap_or_default();
    let annotations = &object["metadata"]["annotations"];
    if phase == "Pending" && !annotations["pv.kubernetes.io/bind-completed"].is_null() {
        return None;
    }
    let capacity = status["capacity"]["storage"].as_str().unwrap_or_default();
    Some(format!("{phase} {capacity}").trim_end().to_owned())
}

fn volume(status: &Value) -> Option<String> {
    // One that was just made has no phase yet, or waits for the claim that it was made for.
    status["phase"]
        .as_str()
        .filter(|phase| !matches!(*phase, "Pending" | "Available"))
        .map(str::to_owned)
}

fn snapshot(status: &Value) -> String {
    let mut words = Vec::new();
    if let Some(message) = status["error"]["message"].as_str() {
        words.push(format!("error {message}"));
    }
    if status["readyToUse"] == true {
        let size = status["restoreSize"].to_string();
        words.push(format!("ready {}", size.trim_matches('"')));
    }
    if words.is_empty() {
        words.push("not ready".to_owned());
    }
    words.join(", ")
}

/// What was seen, in order, by whose it is; names are those of the table.
pub(crate) fn lives(seen: &[Seen], words: &[(String, String)], uids: &Regex) -> Lives {
    let mut names: Vec<(String, String)> = words.to_vec();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (name, from) in seen.iter().filter_map(|one| one.generated.as_ref()) {
        if names.iter().any(|(known, _)| known == name) {
            continue;
        }
        let count = counts.entry(from.clone()).or_default();
        *count += 1;
        names.push((name.clone(), format!("{from}-{count}")));
    }
    let plain = |text: &str| {
        let mut text = text.to_owned();
        for (name, word) in &names {
            text = text.replace(name, word);
        }
        uids.replace_all(&text, "(uid)").into_owned()
    };
    let mut lives = Lives::new();
    for one in seen {
        let Some(state) = &one.state else { continue };
        let whose = plain(&one.whose);
        let told = whose.starts_with(OF_EVENTS);
        let states = lives.entry(whose).or_default();
        let state = plain(state);
        let known = if told {
            states.contains(&state)
        } else {
            states.last() == Some(&state)
        };
        if !known {
            states.push(state);
        }
    }
    lives
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_cluster_may_warn_between_the_recorded_events_and_no_more() {
        let events = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let recorded = events(&[
            "Warning Late: late",
            "Normal Pulled: here",
            "Normal Started: c",
        ]);
        let of = |row: &str, found: &[&str]| only_warns_of_more(row, &recorded, &events(found));
        let row = "events of Pod/w by kubelet";
        let warned = [
            "Warning FailedMount: not yet",
            "Warning Late: late",
            "Normal Pulled: here",
            "Normal Started: c",
        ];
        assert!(of(row, &warned));
        assert!(!of("Pod/w", &warned));
        assert!(!of(row, &warned[..3]), "one is missing");
        assert!(
            !of(row, &[warned[1], warned[3], warned[2]]),
            "another order"
        );
        let mut more = warned.to_vec();
        more.push("Normal Pulled: once more");
        assert!(!of(row, &more), "another that is no warning");
    }

    #[test]
    fn a_claim_that_a_node_may_not_see_yet_is_of_the_moment() {
        let event = |reason: &str, message: &str| serde_json::json!({ "reason": reason, "message": message });
        let refused = "error processing PVC life/v: User \"system:node:node\" cannot get resource: \
                       no relationship found between node 'node' and this object";
        assert!(is_of_the_moment(&event("FailedMount", refused)));
        assert!(!is_of_the_moment(&event(
            "FailedMount",
            "secret \"s\" not found"
        )));
        assert!(!is_of_the_moment(&event("Failed", refused)));
    }
}
