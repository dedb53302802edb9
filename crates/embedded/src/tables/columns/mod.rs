//! The columns of each kind, as a real API server gives them.

mod events;
mod storage;
mod workloads;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::age;
use super::json_path::JsonPath;
use super::{Cell, Column};
use crate::kinds::part::{list, text};

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

fn age_column() -> Column {
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
            ..age_column()
        });
    }
    columns
}

/// A custom column's cell.
pub(in crate::tables) fn shown(found: Option<&Value>, kind: &str, now: Timestamp) -> Value {
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
        ("", "Pod") => columns.extend(workloads::pods()),
        ("", "Service") => columns.extend(workloads::services()),
        ("", "PersistentVolumeClaim") => columns.extend(storage::claims()),
        ("", "PersistentVolume") => columns.extend(storage::volumes()),
        ("", "Node") => columns.extend(nodes()),
        ("", "Event") => return events::events(true),
        ("events.k8s.io", "Event") => return events::events(false),
        ("batch", "Job") => columns.extend(workloads::jobs()),
        ("storage.k8s.io", "StorageClass") => return storage::classes(),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            columns.extend(bindings());
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
                age_column(),
            ]
        }
        "Secret" => vec![
            column("Type", |object, _| at(object, "/type")),
            column("Data", |object, _| json!(entries(object, "/data"))),
            age_column(),
        ],
        "Namespace" => vec![
            column("Status", |object, _| at(object, "/status/phase")),
            age_column(),
        ],
        "ServiceAccount" => vec![
            column("Secrets", |object, _| json!(list(object, "/secrets").len())),
            age_column(),
        ],
        "Lease" => vec![
            column("Holder", |object, _| {
                json!(text(object, "/spec/holderIdentity"))
            }),
            age_column(),
        ],
        "Endpoints" => vec![
            column("Endpoints", |object, _| endpoints(object)),
            age_column(),
        ],
        _ => vec![age_column()],
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
        age_column(),
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

fn bindings() -> Vec<Column> {
    vec![
        column("Role", |binding, _| {
            json!(format!(
                "{}/{}",
                text(binding, "/roleRef/kind"),
                text(binding, "/roleRef/name")
            ))
        }),
        age_column(),
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

fn selector(labels: Option<&Value>) -> String {
    let labels = labels.and_then(Value::as_object).into_iter().flatten();
    labels
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect::<Vec<_>>()
        .join(",")
}
