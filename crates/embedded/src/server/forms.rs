//! One object, several forms: what is stored, and what each version of a resource shows of it.

use serde_json::Value;

use super::{Server, metadata::as_map};
use crate::kinds::{Resource, World};
use crate::store::{Key, Store};

/// Where an object of a resource is kept.
pub(crate) fn key(resource: &dyn Resource, namespace: &str, name: &str) -> Key {
    let (group, plural) = resource.storage();
    Key::new(&group, &plural, namespace, name)
}

/// What all keys of a resource begin with.
pub(crate) fn storage_name(resource: &dyn Resource) -> String {
    let (group, plural) = resource.storage();
    format!("{group}/{plural}")
}

/// `batch/v1`.
pub(crate) fn api_version(resource: &dyn Resource) -> String {
    if resource.group().is_empty() {
        resource.version().to_owned()
    } else {
        format!("{}/{}", resource.group(), resource.version())
    }
}

/// A stored object as this resource shows it. Versions of custom resources differ in nothing but their name.
pub(crate) fn shown_as(resource: &dyn Resource, object: &Value) -> Value {
    let mut shown = object.clone();
    resource.shown_from_stored(&mut shown);
    let fields = as_map(&mut shown);
    fields.insert("apiVersion".to_owned(), Value::from(api_version(resource)));
    fields.insert("kind".to_owned(), Value::from(resource.kind()));
    shown
}

/// An object of this form as it is kept.
pub(crate) fn to_keep(resource: &dyn Resource, mut object: Value) -> Value {
    resource.to_stored(&mut object);
    object
}

/// What defaults and validations may look at.
pub(crate) struct StoredWorld<'a>(pub(crate) &'a Store);

impl World for StoredWorld<'_> {
    fn list(&self, group: &str, plural: &str) -> Vec<Value> {
        let (_, objects) = self.0.list(&format!("{group}/{plural}"), None);
        objects.iter().map(|stored| stored.object.clone()).collect()
    }
}

impl Server {
    pub(crate) fn world(&self) -> StoredWorld<'_> {
        StoredWorld(&self.store)
    }
}
