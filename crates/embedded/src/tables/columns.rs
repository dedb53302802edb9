//! The columns of each kind, as a real API server gives them.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::age;
use super::json_path::JsonPath;
use super::{Cell, Column};

const NAME: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";
const AGE: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";
const DATA: &str = "Data contains the configuration data. Each key must consist of alphanumeric characters, '-', '_' or '.'. Values with non-UTF-8 byte sequences must use the BinaryData field. The keys stored in Data must not overlap with the keys in the BinaryData field, this is enforced during validation process.";

type Compute = fn(&Value, Timestamp) -> Value;

fn column(name: &str, compute: Compute) -> Column {
    Column {
        name: name.to_owned(),
        kind: "string".to_owned(),
        format: String::new(),
        description: String::new(),
        priority: 0,
        cell: Cell::Computed(compute),
    }
}

fn wide(name: &str, compute: Compute) -> Column {
    Column {
        priority: 1,
        ..column(name, compute)
    }
}

fn name() -> Column {
    Column {
        format: "name".to_owned(),
        description: NAME.to_owned(),
        ..column("Name", |object, _| at(object, "/metadata/name"))
    }
}

fn age() -> Column {
    let compute: Compute = |object, now| {
        json!(age::since(
            object.pointer("/metadata/creationTimestamp"),
            now
        ))
    };
    Column {
        description: AGE.to_owned(),
        ..column("Age", compute)
    }
}

/// The columns of a custom kind.
pub(crate) fn custom(declared: &[Value]) -> Vec<Column> {
    let mut columns = vec![name()];
    for column in declared {
        let text = |key: &str| {
            column
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let (path, kind, told) = (text("jsonPath"), text("type"), text("description"));
        let description = if told.is_empty() {
            format!("Custom resource definition column (in JSONPath format): {path}")
        } else {
            told
        };
        columns.push(Column {
            name: text("name"),
            format: text("format"),
            description,
            priority: column
                .get("priority")
                .and_then(Value::as_i64)
                .unwrap_or_default(),
            cell: Cell::Path(JsonPath::parse(&path), kind.clone()),
            kind,
        });
    }
    if declared.is_empty() {
        columns.push(Column {
            kind: "date".to_owned(),
            ..age()
        });
    }
    columns
}

/// A custom column's cell.
pub(super) fn shown(found: Option<&Value>, kind: &str, now: Timestamp) -> Value {
    match (kind, found) {
        (_, None | Some(Value::Null)) => Value::Null,
        ("date", Some(value)) => json!(age::since(Some(value), now)),
        ("string", Some(Value::String(text))) => json!(text),
        ("string", Some(other)) => json!(other.to_string()),
        ("integer" | "number" | "boolean", Some(value)) => value.clone(),
        (_, Some(_)) => Value::Null,
    }
}

fn at(object: &Value, pointer: &str) -> Value {
    object.pointer(pointer).cloned().unwrap_or(Value::Null)
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn entries(object: &Value, pointer: &str) -> usize {
    object
        .pointer(pointer)
        .and_then(Value::as_object)
        .map_or(0, serde_json::Map::len)
}

fn or_none(text: String) -> Value {
    if text.is_empty() {
        json!("<none>")
    } else {
        Value::String(text)
    }
}

/// The columns of a built-in kind.
pub(crate) fn built_in(group: &str, kind: &str) -> Vec<Column> {
    let mut columns = vec![name()];
    match (group, kind) {
        ("", "Pod") => columns.extend(pods()),
        ("", "Service") => columns.extend(services()),
        ("", "PersistentVolumeClaim") => columns.extend(claims()),
        ("", "PersistentVolume") => columns.extend(volumes()),
        ("", "Node") => columns.extend(nodes()),
        ("", "Event") => return events(true),
        ("events.k8s.io", "Event") => return events(false),
        ("batch", "Job") => columns.extend(jobs()),
        ("storage.k8s.io", "StorageClass") => return classes(),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            columns.extend(bindings())
        }
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") | ("apiextensions.k8s.io", _) => {
            columns.push(column("Created At", |object, _| {
                at(object, "/metadata/creationTimestamp")
            }));
        }
        (_, other) => columns.extend(small(other)),
    }
    columns
}

/// Kinds of few columns.
fn small(kind: &str) -> Vec<Column> {
    match kind {
        "ConfigMap" => {
            let data: Compute =
                |object, _| json!(entries(object, "/data") + entries(object, "/binaryData"));
            vec![
                Column {
                    description: DATA.to_owned(),
                    ..column("Data", data)
                },
                age(),
            ]
        }
        "Secret" => vec![
            column("Type", |object, _| at(object, "/type")),
            column("Data", |object, _| json!(entries(object, "/data"))),
            age(),
        ],
        "Namespace" => vec![
            column("Status", |object, _| at(object, "/status/phase")),
            age(),
        ],
        "ServiceAccount" => vec![
            column("Secrets", |object, _| json!(list(object, "/secrets").len())),
            age(),
        ],
        "Lease" => vec![
            column("Holder", |object, _| {
                json!(text(object, "/spec/holderIdentity"))
            }),
            age(),
        ],
        "Endpoints" => vec![column("Endpoints", |object, _| endpoints(object)), age()],
        _ => vec![age()],
    }
}

fn endpoints(object: &Value) -> Value {
    let mut found = Vec::new();
    for subset in list(object, "/subsets") {
        for address in list(subset, "/addresses") {
            for port in list(subset, "/ports") {
                found.push(format!("{}:{}", text(address, "/ip"), at(port, "/port")));
            }
        }
    }
    or_none(found.join(","))
}

fn pods() -> Vec<Column> {
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
        age(),
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
        reason = "Running".to_owned();
    }
    if pod.pointer("/metadata/deletionTimestamp").is_some()
        && phase != "Failed"
        && phase != "Succeeded"
    {
        reason = "Terminating".to_owned();
    }
    reason
}

fn jobs() -> Vec<Column> {
    vec![
        column("Status", |job, _| json!(job_status(job))),
        column("Completions", |job, _| {
            let succeeded = at(job, "/status/succeeded").as_i64().unwrap_or_default();
            match at(job, "/spec/completions").as_i64() {
                Some(wanted) => json!(format!("{succeeded}/{wanted}")),
                None => {
                    let parallelism = at(job, "/spec/parallelism").as_i64().unwrap_or_default();
                    if parallelism > 1 {
                        json!(format!("{succeeded}/1 of {parallelism}"))
                    } else {
                        json!(format!("{succeeded}/1"))
                    }
                }
            }
        }),
        column("Duration", |job, now| {
            let Ok(start) = text(job, "/status/startTime").parse::<Timestamp>() else {
                return json!("");
            };
            let end = text(job, "/status/completionTime").parse().unwrap_or(now);
            json!(age::human(end.as_second() - start.as_second()))
        }),
        age(),
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

fn selector(labels: Option<&Value>) -> String {
    let labels = labels.and_then(Value::as_object).into_iter().flatten();
    labels
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect::<Vec<_>>()
        .join(",")
}

fn services() -> Vec<Column> {
    vec![
        column("Type", |service, _| at(service, "/spec/type")),
        column("Cluster-IP", |service, _| {
            or_none(text(service, "/spec/clusterIP").to_owned())
        }),
        column("External-IP", |service, _| external(service)),
        column("Port(s)", |service, _| or_none(ports(service))),
        age(),
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

/// `RWO,RWX`.
fn access_modes(object: &Value, pointer: &str) -> String {
    let short = |mode: &Value| match mode.as_str().unwrap_or_default() {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        _ => "",
    };
    list(object, pointer)
        .iter()
        .map(short)
        .collect::<Vec<_>>()
        .join(",")
}

fn claims() -> Vec<Column> {
    vec![
        column("Status", |claim, _| {
            let deleting = claim.pointer("/metadata/deletionTimestamp").is_some();
            json!(if deleting {
                "Terminating"
            } else {
                text(claim, "/status/phase")
            })
        }),
        column("Volume", |claim, _| json!(text(claim, "/spec/volumeName"))),
        column("Capacity", |claim, _| {
            if text(claim, "/spec/volumeName").is_empty() {
                json!("")
            } else {
                json!(text(claim, "/status/capacity/storage"))
            }
        }),
        column("Access Modes", |claim, _| {
            if text(claim, "/spec/volumeName").is_empty() {
                json!("")
            } else {
                json!(access_modes(claim, "/status/accessModes"))
            }
        }),
        column("StorageClass", |claim, _| {
            json!(text(claim, "/spec/storageClassName"))
        }),
        column("VolumeAttributesClass", |claim, _| {
            unset(text(claim, "/spec/volumeAttributesClassName"))
        }),
        age(),
        wide("VolumeMode", |claim, _| {
            unset(text(claim, "/spec/volumeMode"))
        }),
    ]
}

fn unset(text: &str) -> Value {
    json!(if text.is_empty() { "<unset>" } else { text })
}

fn volumes() -> Vec<Column> {
    vec![
        column("Capacity", |volume, _| {
            json!(text(volume, "/spec/capacity/storage"))
        }),
        column("Access Modes", |volume, _| {
            json!(access_modes(volume, "/spec/accessModes"))
        }),
        column("Reclaim Policy", |volume, _| {
            json!(text(volume, "/spec/persistentVolumeReclaimPolicy"))
        }),
        column("Status", |volume, _| {
            let deleting = volume.pointer("/metadata/deletionTimestamp").is_some();
            json!(if deleting {
                "Terminating"
            } else {
                text(volume, "/status/phase")
            })
        }),
        column("Claim", |volume, _| {
            match volume.pointer("/spec/claimRef") {
                Some(claim) => json!(format!(
                    "{}/{}",
                    text(claim, "/namespace"),
                    text(claim, "/name")
                )),
                None => json!(""),
            }
        }),
        column("StorageClass", |volume, _| {
            json!(text(volume, "/spec/storageClassName"))
        }),
        column("VolumeAttributesClass", |volume, _| {
            unset(text(volume, "/spec/volumeAttributesClassName"))
        }),
        column("Reason", |volume, _| json!(text(volume, "/status/reason"))),
        age(),
        wide("VolumeMode", |volume, _| {
            unset(text(volume, "/spec/volumeMode"))
        }),
    ]
}

fn nodes() -> Vec<Column> {
    vec![
        column("Status", |node, _| {
            let ready = list(node, "/status/conditions")
                .iter()
                .find(|condition| text(condition, "/type") == "Ready");
            let mut status = match ready.map(|condition| text(condition, "/status")) {
                Some("True") => "Ready".to_owned(),
                Some(_) => "NotReady".to_owned(),
                None => "Unknown".to_owned(),
            };
            if at(node, "/spec/unschedulable") == json!(true) {
                status.push_str(",SchedulingDisabled");
            }
            json!(status)
        }),
        column("Roles", |node, _| {
            let labels = node
                .pointer("/metadata/labels")
                .and_then(Value::as_object)
                .into_iter()
                .flatten();
            let roles: Vec<&str> = labels
                .filter_map(|(key, _)| key.strip_prefix("node-role.kubernetes.io/"))
                .collect();
            or_none(roles.join(","))
        }),
        age(),
        column("Version", |node, _| {
            json!(text(node, "/status/nodeInfo/kubeletVersion"))
        }),
        wide("Internal-IP", |node, _| {
            or_none(address(node, "InternalIP"))
        }),
        wide("External-IP", |node, _| {
            or_none(address(node, "ExternalIP"))
        }),
        wide("OS-Image", |node, _| {
            json!(text(node, "/status/nodeInfo/osImage"))
        }),
        wide("Kernel-Version", |node, _| {
            json!(text(node, "/status/nodeInfo/kernelVersion"))
        }),
        wide("Container-Runtime", |node, _| {
            json!(text(node, "/status/nodeInfo/containerRuntimeVersion"))
        }),
    ]
}

fn address(node: &Value, kind: &str) -> String {
    let found = list(node, "/status/addresses")
        .iter()
        .find(|address| text(address, "/type") == kind);
    found
        .map(|address| text(address, "/address").to_owned())
        .unwrap_or_default()
}

fn class_name() -> Column {
    let mark: Compute = |class, _| {
        let default = text(
            class,
            "/metadata/annotations/storageclass.kubernetes.io~1is-default-class",
        ) == "true";
        json!(format!(
            "{}{}",
            text(class, "/metadata/name"),
            if default { " (default)" } else { "" }
        ))
    };
    Column {
        cell: Cell::Computed(mark),
        ..name()
    }
}

fn classes() -> Vec<Column> {
    vec![
        class_name(),
        column("Provisioner", |class, _| at(class, "/provisioner")),
        column("ReclaimPolicy", |class, _| at(class, "/reclaimPolicy")),
        column("VolumeBindingMode", |class, _| {
            at(class, "/volumeBindingMode")
        }),
        column("AllowVolumeExpansion", |class, _| {
            json!(at(class, "/allowVolumeExpansion") == json!(true))
        }),
        age(),
    ]
}

fn bindings() -> Vec<Column> {
    vec![
        column("Role", |binding, _| {
            json!(format!(
                "{}/{}",
                text(binding, "/roleRef/kind"),
                text(binding, "/roleRef/name")
            ))
        }),
        age(),
        wide("Users", |binding, _| json!(subjects(binding, "User"))),
        wide("Groups", |binding, _| json!(subjects(binding, "Group"))),
        wide("ServiceAccounts", |binding, _| {
            json!(subjects(binding, "ServiceAccount"))
        }),
    ]
}

fn subjects(binding: &Value, kind: &str) -> String {
    let found = list(binding, "/subjects")
        .iter()
        .filter(|subject| text(subject, "/kind") == kind);
    let shown = found.map(|subject| match text(subject, "/namespace") {
        "" => text(subject, "/name").to_owned(),
        namespace => format!("{namespace}/{}", text(subject, "/name")),
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// Events: those of core/v1 and of events.k8s.io/v1 differ in their fields' names only.
fn events(core: bool) -> Vec<Column> {
    let object: Compute = if core {
        |event, _| json!(reference(event, "/involvedObject"))
    } else {
        |event, _| json!(reference(event, "/regarding"))
    };
    let note: Compute = if core {
        |event, _| json!(text(event, "/message").trim())
    } else {
        |event, _| json!(text(event, "/note").trim())
    };
    vec![
        column("Last Seen", |event, now| {
            json!(age::since(last_seen(event), now))
        }),
        column("Type", |event, _| at(event, "/type")),
        column("Reason", |event, _| at(event, "/reason")),
        column("Object", object),
        wide("Subobject", |event, _| {
            json!(text(event, "/involvedObject/fieldPath"))
        }),
        wide("Source", |event, _| json!(text(event, "/source/component"))),
        column("Message", note),
        wide("First Seen", |event, now| {
            json!(age::since(first_seen(event), now))
        }),
        wide("Count", |event, _| {
            event
                .pointer("/series/count")
                .or_else(|| event.pointer("/count"))
                .cloned()
                .unwrap_or_else(|| json!(1))
        }),
        Column {
            priority: 1,
            ..name()
        },
    ]
}

fn reference(event: &Value, pointer: &str) -> String {
    let found = event.pointer(pointer).unwrap_or(&Value::Null);
    format!(
        "{}/{}",
        text(found, "/kind").to_lowercase(),
        text(found, "/name")
    )
}

fn first_of<'a>(event: &'a Value, pointers: &[&str]) -> Option<&'a Value> {
    pointers
        .iter()
        .filter_map(|pointer| event.pointer(pointer))
        .find(|value| value.is_string())
}

fn last_seen(event: &Value) -> Option<&Value> {
    first_of(
        event,
        &[
            "/series/lastObservedTime",
            "/lastTimestamp",
            "/deprecatedLastTimestamp",
            "/eventTime",
            "/metadata/creationTimestamp",
        ],
    )
}

fn first_seen(event: &Value) -> Option<&Value> {
    first_of(
        event,
        &[
            "/firstTimestamp",
            "/deprecatedFirstTimestamp",
            "/eventTime",
            "/metadata/creationTimestamp",
        ],
    )
}
