//! Who manages which fields: `metadata.managedFields`, kept on every write, and server-side apply built on it.
//!
//! The rules are those of structured-merge-diff (sigs.k8s.io): an update takes ownership of what it changes; an apply owns
//! what it names, conflicts with others whose fields it would change, and removes what it named before and no longer does.

mod fields;
mod values;

#[cfg(test)]
mod tests;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{forms::api_version, metadata, patches::Applied, status::Failure};
use crate::kinds::Resource;
use fields::{FieldSet, describe};
use values::Comparison;

/// Fields that nobody manages, because the server writes them.
const SERVER_FIELDS: [&[&str]; 13] = [
    &["f:apiVersion"],
    &["f:kind"],
    &["f:metadata", "f:name"],
    &["f:metadata", "f:namespace"],
    &["f:metadata", "f:creationTimestamp"],
    &["f:metadata", "f:deletionTimestamp"],
    &["f:metadata", "f:deletionGracePeriodSeconds"],
    &["f:metadata", "f:selfLink"],
    &["f:metadata", "f:uid"],
    &["f:metadata", "f:clusterName"],
    &["f:metadata", "f:generation"],
    &["f:metadata", "f:managedFields"],
    &["f:metadata", "f:resourceVersion"],
];

/// One entry of `managedFields`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    manager: String,
    /// `Apply` or `Update`.
    operation: String,
    api_version: String,
    subresource: Option<String>,
    time: Option<String>,
    set: FieldSet,
}

/// Who updates what.
pub(crate) struct Writer<'a> {
    pub(crate) manager: &'a str,
    /// Whether it is the status that is written.
    pub(crate) status: bool,
    pub(crate) now: Timestamp,
}

impl Entry {
    fn read(value: &Value) -> Option<Self> {
        let text = |field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
        Some(Self {
            manager: text("manager")?,
            operation: text("operation")?,
            api_version: text("apiVersion")?,
            subresource: text("subresource").filter(|name| !name.is_empty()),
            time: text("time"),
            set: FieldSet::from_json(value.get("fieldsV1")?),
        })
    }

    fn write(&self) -> Value {
        let mut entry = json!({
            "manager": self.manager, "operation": self.operation, "apiVersion": self.api_version,
            "fieldsType": "FieldsV1", "fieldsV1": self.set.to_json(),
        });
        let fields = metadata::as_map(&mut entry);
        if let Some(time) = &self.time {
            fields.insert("time".to_owned(), json!(time));
        }
        if let Some(subresource) = &self.subresource {
            fields.insert("subresource".to_owned(), json!(subresource));
        }
        entry
    }

    /// Whether it is this manager's entry for this operation. Who applies has one entry for all versions.
    fn is(&self, manager: &str, operation: &str, version: &str, subresource: Option<&str>) -> bool {
        self.manager == manager
            && self.operation == operation
            && self.subresource.as_deref() == subresource
            && (operation == "Apply" || self.api_version == version)
    }

    /// The manager in the words of conflict messages.
    fn describe(&self) -> String {
        let subresource = self
            .subresource
            .as_ref()
            .map(|name| format!(" with subresource {name:?}"))
            .unwrap_or_default();
        let version = if self.operation == "Update" {
            format!(" using {}", self.api_version)
        } else {
            String::new()
        };
        format!("{:?}{subresource}{version}", self.manager)
    }
}

fn read_all(managed: Option<&Value>) -> Vec<Entry> {
    managed
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Entry::read)
        .collect()
}

fn write_all(object: &mut Value, mut entries: Vec<Entry>) {
    entries.retain(|entry| !entry.set.is_empty());
    entries.sort_by(|a, b| {
        let order = |entry: &Entry| {
            (
                entry.operation.clone(),
                entry.time.clone(),
                entry.manager.clone(),
                entry.api_version.clone(),
                entry.subresource.clone(),
            )
        };
        order(a).cmp(&order(b))
    });
    if entries.is_empty() {
        metadata::metadata(object).remove("managedFields");
    } else {
        metadata::set(
            object,
            "managedFields",
            entries.iter().map(Entry::write).collect(),
        );
    }
}

/// Leaves out what the server writes, and the half of the object that this request cannot write.
fn strip(resource: &dyn Resource, set: &mut FieldSet, status: bool) {
    for path in SERVER_FIELDS {
        set.cut(path);
    }
    if status {
        set.children.retain(|element, _| element == "f:status");
    } else if resource.has_status() {
        set.cut(&["f:status"]);
    }
}

/// Notes who made a new object.
pub(crate) fn created(resource: &dyn Resource, object: &mut Value, manager: &str, now: Timestamp) {
    metadata::metadata(object).remove("managedFields");
    let writer = Writer {
        manager,
        status: false,
        now,
    };
    updated(resource, object, &resource.empty(), None, &writer);
}

/// Notes who changed which fields. `sent` is what the client sent as managed fields, which may take entries away.
pub(crate) fn updated(
    resource: &dyn Resource,
    object: &mut Value,
    current: &Value,
    sent: Option<&Value>,
    writer: &Writer<'_>,
) {
    let stored = current.pointer("/metadata/managedFields");
    let is_new = metadata::text(current, "uid").is_none();
    // Who emptied the list asked for nobody to be noted, until somebody applies.
    if !is_new && read_all(stored).is_empty() {
        metadata::metadata(object).remove("managedFields");
        return;
    }
    let mut entries = match sent.filter(|sent| sent.is_array() && stored.is_some()) {
        Some(sent) => read_all(Some(sent)),
        None => read_all(stored),
    };
    let changes =
        values::compare(resource, current, object).map(|set| strip(resource, set, writer.status));
    let written = changes.added.union(&changes.modified);
    let version = api_version(resource);
    let subresource = writer.status.then_some("status");
    let own = entries
        .iter()
        .position(|entry| entry.is(writer.manager, "Update", &version, subresource));
    for (index, entry) in entries.iter_mut().enumerate() {
        entry.set = entry.set.difference(&changes.removed);
        if Some(index) != own {
            entry.set = entry.set.difference(&written);
        }
    }
    if !written.is_empty() {
        let time = Some(metadata::time(writer.now));
        if let Some(entry) = own.and_then(|index| entries.get_mut(index)) {
            entry.set = entry.set.union(&written);
            entry.time = time;
        } else {
            entries.push(Entry {
                manager: writer.manager.to_owned(),
                operation: "Update".to_owned(),
                api_version: version,
                subresource: subresource.map(str::to_owned),
                time,
                set: written,
            });
        }
    }
    write_all(object, entries);
}

/// Notes who applied a new object.
pub(crate) fn applied_new(
    resource: &dyn Resource,
    object: &mut Value,
    applied: &Applied,
    now: Timestamp,
) {
    metadata::metadata(object).remove("managedFields");
    let mut set = values::fields_of(resource, &applied.config);
    strip(resource, &mut set, false);
    let entry = Entry {
        time: Some(metadata::time(now)),
        ..own_entry(resource, applied, set)
    };
    write_all(object, vec![entry]);
}

fn own_entry(resource: &dyn Resource, applied: &Applied, set: FieldSet) -> Entry {
    Entry {
        manager: applied.manager.clone(),
        operation: "Apply".to_owned(),
        api_version: api_version(resource),
        subresource: applied.status.then(|| "status".to_owned()),
        time: None,
        set,
    }
}

/// The current object with a configuration applied, and its managed fields; or the conflicts.
pub(crate) fn apply(
    resource: &dyn Resource,
    current: &Value,
    applied: &Applied,
    now: Timestamp,
) -> Result<Value, Failure> {
    let mut set = values::fields_of(resource, &applied.config);
    strip(resource, &mut set, applied.status);
    let (own, mut others) = entries_for_apply(resource, current, applied);

    let mut merged = values::merge(resource, current, &applicable(resource, applied));
    let kept = others
        .iter()
        .fold(set.clone(), |kept, entry| kept.union(&entry.set));
    let last = own
        .as_ref()
        .map(|entry| entry.set.clone())
        .unwrap_or_default();
    values::remove(resource, &mut merged, &last.difference(&kept), &kept);

    let changes =
        values::compare(resource, current, &merged).map(|set| strip(resource, set, applied.status));
    let written = changes.added.union(&changes.modified);
    let conflicts: Vec<(String, FieldSet)> = others
        .iter()
        .map(|entry| (entry.describe(), entry.set.intersection(&written)))
        .filter(|(_, set)| !set.is_empty())
        .collect();
    if !applied.force && !conflicts.is_empty() {
        return Err(conflict(conflicts));
    }
    for entry in &mut others {
        entry.set = entry.set.difference(&written).difference(&changes.removed);
    }
    others.push(Entry {
        time: time_of(&changes, own, now),
        ..own_entry(resource, applied, set)
    });
    write_all(&mut merged, others);
    Ok(merged)
}

/// The applier's own entry, and all others. An object that nobody manages yet is managed by whoever was before.
fn entries_for_apply(
    resource: &dyn Resource,
    current: &Value,
    applied: &Applied,
) -> (Option<Entry>, Vec<Entry>) {
    let mut entries = read_all(current.pointer("/metadata/managedFields"));
    if entries.is_empty() {
        let mut set = values::fields_of(resource, current);
        strip(resource, &mut set, false);
        entries.push(Entry {
            manager: "before-first-apply".to_owned(),
            operation: "Update".to_owned(),
            ..own_entry(
                resource,
                &Applied {
                    status: false,
                    ..applied.clone()
                },
                set,
            )
        });
    }
    let subresource = applied.status.then_some("status");
    let is_own = |entry: &Entry| entry.is(&applied.manager, "Apply", "", subresource);
    let own = entries
        .iter()
        .position(is_own)
        .map(|index| entries.remove(index));
    (own, entries)
}

/// The time of the applier's entry: only what changes the object counts.
fn time_of(changes: &Comparison, own: Option<Entry>, now: Timestamp) -> Option<String> {
    if changes.is_same() {
        own.and_then(|entry| entry.time)
    } else {
        Some(metadata::time(now))
    }
}

/// The half of a configuration that this request may write.
fn applicable(resource: &dyn Resource, applied: &Applied) -> Value {
    let mut config = applied.config.clone();
    let fields = metadata::as_map(&mut config);
    if applied.status {
        fields.retain(|name, _| matches!(name.as_str(), "apiVersion" | "kind" | "status"));
    } else if resource.has_status() {
        fields.remove("status");
    }
    config
}

fn conflict(mut conflicts: Vec<(String, FieldSet)>) -> Failure {
    conflicts.sort_by(|a, b| a.0.cmp(&b.0));
    let causes: Vec<Value> = conflicts
        .iter()
        .flat_map(|(manager, set)| set.paths().into_iter().map(move |path| (manager, describe(&path))))
        .map(|(manager, path)| {
            json!({"reason": "FieldManagerConflict", "message": format!("conflict with {manager}"), "field": path})
        })
        .collect();
    let message = match conflicts.as_slice() {
        [(manager, set)] if causes.len() == 1 => {
            let field: String = set.paths().iter().map(|path| describe(path)).collect();
            format!("Apply failed with 1 conflict: conflict with {manager}: {field}")
        }
        _ => {
            let parts: Vec<String> = conflicts
                .iter()
                .map(|(manager, set)| conflicts_with(manager, set))
                .collect();
            format!(
                "Apply failed with {} conflicts: {}",
                causes.len(),
                parts.join("\n")
            )
        }
    };
    Failure::apply_conflict(message, &causes)
}

fn conflicts_with(manager: &str, set: &FieldSet) -> String {
    let paths: Vec<String> = set.paths().iter().map(|path| describe(path)).collect();
    format!("conflicts with {manager}:\n- {}", paths.join("\n- "))
}
