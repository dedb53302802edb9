//! Values and the fields in them: which fields a value has, in what two values differ, how one merges into another.
//!
//! A list of maps with keys is compared and merged by these keys, a list of scalars that is a set by its values; all that
//! a resource calls atomic is one field.

use serde_json::{Map, Value};

use super::fields::FieldSet;
use crate::kinds::{Merge, Resource};

/// In what two values differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Comparison {
    pub(crate) added: FieldSet,
    pub(crate) modified: FieldSet,
    pub(crate) removed: FieldSet,
}

impl Comparison {
    pub(crate) fn is_same(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    pub(crate) fn map(self, change: impl Fn(&mut FieldSet)) -> Self {
        let Self {
            mut added,
            mut modified,
            mut removed,
        } = self;
        for set in [&mut added, &mut modified, &mut removed] {
            change(set);
        }
        Self {
            added,
            modified,
            removed,
        }
    }
}

/// Fields that are there, if only empty, in every object of a built-in kind, because its Go structs hold them by value:
/// writing below them does not add them. (k8s.io/api, fields without `omitempty` or pointer.)
const ALWAYS_THERE: [&str; 17] = [
    "metadata",
    "spec",
    "status",
    "spec/containers",
    "spec/resources",
    "spec/strategy",
    "spec/updateStrategy",
    "spec/names",
    "spec/versions",
    "spec/template",
    "spec/template/metadata",
    "spec/template/spec",
    "spec/template/spec/containers",
    "spec/jobTemplate",
    "status/acceptedNames",
    "status/conditions",
    "status/loadBalancer",
];

/// Where in a value one is: the names that `merge_at` understands, and the elements that field sets use.
#[derive(Clone, Default)]
pub(crate) struct Place {
    names: Vec<String>,
    elements: Vec<String>,
}

impl Place {
    fn field(&self, name: &str) -> Self {
        let mut place = self.clone();
        place.names.push(name.to_owned());
        place.elements.push(format!("f:{name}"));
        place
    }

    fn item(&self, element: &str) -> Self {
        let mut place = self.clone();
        place.names.push("*".to_owned());
        place.elements.push(element.to_owned());
        place
    }

    fn merge(&self, resource: &dyn Resource) -> Merge {
        if self.names.is_empty() {
            return Merge::Granular;
        }
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        resource.merge_at(&names)
    }

    fn always_there(&self, resource: &dyn Resource) -> bool {
        resource.strategic() && ALWAYS_THERE.contains(&self.names.join("/").as_str())
    }
}

/// How a value is looked at, given what its kind says of its place.
enum View<'a> {
    Map(&'a Map<String, Value>),
    /// Items by their field set element.
    Items(Vec<(String, &'a Value)>),
    /// One field, whatever is in it.
    Leaf,
}

fn view<'a>(resource: &dyn Resource, place: &Place, value: &'a Value) -> View<'a> {
    match (value, place.merge(resource)) {
        (Value::Object(fields), Merge::Granular) => View::Map(fields),
        (Value::Array(items), Merge::Set) => View::Items(
            items
                .iter()
                .map(|item| (format!("v:{item}"), item))
                .collect(),
        ),
        (Value::Array(items), Merge::ByKey(keys)) => {
            let items: Option<Vec<_>> = items
                .iter()
                .map(|item| Some((key_element(item, &keys)?, item)))
                .collect();
            items.map_or(View::Leaf, View::Items)
        }
        _ => View::Leaf,
    }
}

/// `k:{"port":22,"protocol":"TCP"}`; `None` when a key is missing.
fn key_element(item: &Value, keys: &[(String, Option<Value>)]) -> Option<String> {
    let mut found = Map::new();
    for (key, default) in keys {
        let value = item
            .get(key)
            .filter(|value| !value.is_null())
            .or(default.as_ref());
        if let Some(value) = value {
            found.insert(key.clone(), value.clone());
        }
    }
    (!found.is_empty() && item.is_object()).then(|| format!("k:{}", Value::Object(found)))
}

fn present(value: Option<&Value>) -> Option<&Value> {
    value.filter(|value| !value.is_null())
}

/// The fields that an applied configuration names: its leaves and list items.
pub(crate) fn fields_of(resource: &dyn Resource, value: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    collect(resource, &Place::default(), value, &mut set);
    set
}

fn collect(resource: &dyn Resource, place: &Place, value: &Value, set: &mut FieldSet) {
    match view(resource, place, value) {
        View::Map(fields) if !fields.is_empty() => {
            for (name, child) in fields {
                collect(resource, &place.field(name), child, set);
            }
        }
        View::Items(items) if !items.is_empty() => {
            for (element, item) in items {
                let place = place.item(&element);
                set.insert(&place.elements);
                if item.is_object() {
                    collect(resource, &place, item, set);
                }
            }
        }
        _ if place.elements.is_empty() => {}
        _ => set.insert(&place.elements),
    }
}

/// In what `new` differs from `old`.
pub(crate) fn compare(resource: &dyn Resource, old: &Value, new: &Value) -> Comparison {
    let mut comparison = Comparison::default();
    compare_at(
        resource,
        &Place::default(),
        (present(Some(old)), present(Some(new))),
        &mut comparison,
    );
    comparison
}

fn compare_at(
    resource: &dyn Resource,
    place: &Place,
    (old, new): (Option<&Value>, Option<&Value>),
    comparison: &mut Comparison,
) {
    let (old, new) = match (old, new) {
        (None, None) => return,
        (None, Some(new)) => return everything(resource, place, new, &mut comparison.added),
        (Some(old), None) => return everything(resource, place, old, &mut comparison.removed),
        (Some(old), Some(new)) if old == new => return,
        (Some(old), Some(new)) => (old, new),
    };
    match (view(resource, place, old), view(resource, place, new)) {
        (View::Map(old), View::Map(new)) => {
            let names = old
                .keys()
                .chain(new.keys().filter(|name| !old.contains_key(*name)));
            for name in names {
                let pair = (present(old.get(name)), present(new.get(name)));
                compare_at(resource, &place.field(name), pair, comparison);
            }
        }
        (View::Items(old), View::Items(new)) => {
            let find = |items: &[(String, &Value)], element: &str| {
                items
                    .iter()
                    .find(|(other, _)| other == element)
                    .map(|(_, item)| (*item).clone())
            };
            let elements = old.iter().chain(
                new.iter()
                    .filter(|(element, _)| !old.iter().any(|(other, _)| other == element)),
            );
            for (element, _) in elements {
                let (before, after) = (find(&old, element), find(&new, element));
                compare_at(
                    resource,
                    &place.item(element),
                    (before.as_ref(), after.as_ref()),
                    comparison,
                );
            }
        }
        _ => comparison.modified.insert(&place.elements),
    }
}

/// A value that is there on one side only: its own path and everything below.
fn everything(resource: &dyn Resource, place: &Place, value: &Value, set: &mut FieldSet) {
    let below = match view(resource, place, value) {
        View::Map(fields) => {
            for (name, child) in fields.iter().filter(|(_, child)| !child.is_null()) {
                everything(resource, &place.field(name), child, set);
            }
            !fields.is_empty()
        }
        View::Items(items) => {
            for (element, item) in &items {
                let place = place.item(element);
                set.insert(&place.elements);
                if item.is_object() {
                    everything(resource, &place, item, set);
                }
            }
            !items.is_empty()
        }
        View::Leaf => false,
    };
    let nobodys = place.elements.is_empty() || (below && place.always_there(resource));
    if !nobodys {
        set.insert(&place.elements);
    }
}

/// Lays a configuration over a live value. What the configuration does not name stays.
pub(crate) fn merge(resource: &dyn Resource, live: &Value, config: &Value) -> Value {
    merge_at(resource, &Place::default(), Some(live), config)
}

fn merge_at(resource: &dyn Resource, place: &Place, live: Option<&Value>, config: &Value) -> Value {
    let Some(live) = present(live) else {
        return config.clone();
    };
    match (view(resource, place, live), view(resource, place, config)) {
        (View::Map(live), View::Map(config)) => {
            let mut merged = live.clone();
            for (name, value) in config {
                let value = merge_at(resource, &place.field(name), live.get(name), value);
                merged.insert(name.clone(), value);
            }
            Value::Object(merged)
        }
        (View::Items(live), View::Items(config)) => merge_items(resource, place, &live, &config),
        _ => config.clone(),
    }
}

/// The configuration's items in its order; those that only live has keep their place between them.
fn merge_items(
    resource: &dyn Resource,
    place: &Place,
    live: &[(String, &Value)],
    config: &[(String, &Value)],
) -> Value {
    let find = |items: &[(String, &Value)], element: &str| {
        items
            .iter()
            .find(|(other, _)| other == element)
            .map(|(_, item)| (*item).clone())
    };
    let mut merged = Vec::new();
    let mut wanted = config.iter();
    let mut take = |merged: &mut Vec<Value>| {
        if let Some((element, item)) = wanted.next() {
            let before = find(live, element);
            merged.push(merge_at(
                resource,
                &place.item(element),
                before.as_ref(),
                item,
            ));
        }
    };
    for (element, item) in live {
        if find(config, element).is_some() {
            take(&mut merged);
        } else {
            merged.push((*item).clone());
        }
    }
    for _ in 0..config.len() {
        take(&mut merged);
    }
    Value::Array(merged)
}

/// Removes the fields of `gone` from a value, but for those that hold fields of `kept`.
pub(crate) fn remove(resource: &dyn Resource, value: &mut Value, gone: &FieldSet, kept: &FieldSet) {
    remove_at(resource, &Place::default(), value, (gone, kept));
}

fn remove_at(
    resource: &dyn Resource,
    place: &Place,
    value: &mut Value,
    (gone, kept): (&FieldSet, &FieldSet),
) {
    let nothing = FieldSet::default();
    let elements: Vec<String> = match view(resource, place, value) {
        View::Map(_) | View::Leaf => Vec::new(),
        View::Items(items) => items.into_iter().map(|(element, _)| element).collect(),
    };
    let visit = |element: &str, below: &Place, child: &mut Value| -> bool {
        let Some(gone) = gone.children.get(element) else {
            return true;
        };
        let kept = kept.children.get(element).unwrap_or(&nothing);
        let had = !is_hollow(child);
        remove_at(resource, below, child, (gone, kept));
        let emptied = had && is_hollow(child) && kept.is_empty();
        !(emptied || (gone.member && kept.is_empty()))
    };
    match value {
        Value::Object(fields) => {
            let names: Vec<String> = fields.keys().cloned().collect();
            for name in names {
                let Some(child) = fields.get_mut(&name) else {
                    continue;
                };
                if !visit(&format!("f:{name}"), &place.field(&name), child) {
                    fields.remove(&name);
                }
            }
        }
        Value::Array(items) if !elements.is_empty() => {
            let mut elements = elements.into_iter();
            items.retain_mut(|item| {
                let Some(element) = elements.next() else {
                    return true;
                };
                visit(&element, &place.item(&element), item)
            });
        }
        _ => {}
    }
}

fn is_hollow(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}
