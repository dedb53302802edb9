//! The life of custom resource definitions: established when stored, and gone when their last instance is.

use std::sync::{Arc, PoisonError};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Server, managed, metadata, route::Target, status::Failure};
use crate::kinds::Resource;
use crate::store::{Change, Expect, Key, Stored};

const GROUP: &str = "apiextensions.k8s.io";
const PLURAL: &str = "customresourcedefinitions";
const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

pub(crate) fn is_definition(resource: &dyn Resource) -> bool {
    resource.group() == GROUP && resource.plural() == PLURAL
}

/// Holds a definition until its instances are gone.
pub(crate) fn add_finalizer(finalizers: &mut Vec<String>) {
    if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
        finalizers.push(FINALIZER.to_owned());
    }
}

/// Says that the instances are about to go.
pub(crate) fn mark_terminating(definition: &mut Value, now: Timestamp) {
    let message =
        "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
    set_condition(
        definition,
        "Terminating",
        "InstanceDeletionPending",
        message,
        now,
    );
}

impl Server {
    /// Serves every definition in the store; called once at the start.
    pub(crate) fn install_stored_definitions(&self) {
        for stored in self.store.list(&format!("{GROUP}/{PLURAL}"), None).1 {
            self.install(&stored.object);
        }
    }

    fn install(&self, definition: &Value) -> bool {
        let mut registry = self
            .registry
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        match registry.install(definition) {
            Ok(()) => true,
            Err(errors) => {
                let name = metadata::text(definition, "name").unwrap_or_default();
                tracing::warn!(
                    name,
                    ?errors,
                    "this custom resource definition cannot be served"
                );
                false
            }
        }
    }

    /// What follows a write: a definition is served from now on.
    pub(crate) async fn after_write(&self, resource: &dyn Resource, stored: &Arc<Stored>) {
        if !is_definition(resource)
            || metadata::is_terminating(&stored.object)
            || !self.install(&stored.object)
        {
            return;
        }
        let mut definition = stored.object.clone();
        let names = definition
            .pointer("/spec/names")
            .cloned()
            .unwrap_or_default();
        let now = self.now();
        let accepted = "the initial names have been accepted";
        set_condition(
            &mut definition,
            "NamesAccepted",
            "NoConflicts",
            "no conflicts found",
            now,
        );
        set_condition(
            &mut definition,
            "Established",
            "InitialNamesAccepted",
            accepted,
            now,
        );
        let status = status_of(&mut definition);
        status.insert("acceptedNames".to_owned(), names);
        if definition == stored.object {
            return;
        }
        let writer = managed::Writer {
            manager: "kube-apiserver",
            status: true,
            now,
        };
        managed::updated(resource, &mut definition, &stored.object, None, &writer);
        let change = Change {
            key: stored.key.clone(),
            expect: Expect::Revision(stored.revision),
            object: Some(definition),
        };
        // Whoever changed the definition meanwhile comes through here again.
        if let Err(error) = self.store.write(change).await {
            tracing::debug!(%error, "a definition changed while it was being established");
        }
    }

    /// What follows a removal: a definition is served no longer.
    pub(crate) fn after_removal(&self, resource: &dyn Resource, stored: &Stored) {
        if is_definition(resource) {
            let mut registry = self
                .registry
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            registry.remove(&stored.key.name);
        }
    }

    /// Removes the instances of terminating definitions, and the definitions that have none left. Runs until the stop.
    pub(crate) async fn clean_up_definitions(self: Arc<Self>) {
        let mut newest = self.store.watch();
        loop {
            newest.mark_unchanged();
            for stored in self.store.list(&format!("{GROUP}/{PLURAL}"), None).1 {
                let finalizers = metadata::finalizers(&stored.object);
                if metadata::is_terminating(&stored.object)
                    && finalizers.iter().any(|name| name == FINALIZER)
                {
                    self.clean_up(&stored).await;
                }
            }
            tokio::select! {
                changed = newest.changed() => if changed.is_err() { return },
                () = self.stop.cancelled() => return,
            }
        }
    }

    async fn clean_up(&self, definition: &Arc<Stored>) {
        let text = |path: &str| {
            definition
                .object
                .pointer(path)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let name = format!("{}/{}", text("/spec/group"), text("/spec/names/plural"));
        let mut left = false;
        for instance in self.store.list(&name, None).1 {
            let held = !metadata::finalizers(&instance.object).is_empty();
            left |= held;
            if held && metadata::is_terminating(&instance.object) {
                continue;
            }
            let mut marked = instance.object.clone();
            metadata::set(
                &mut marked,
                "deletionTimestamp",
                json!(metadata::time(self.now())),
            );
            metadata::set(&mut marked, "deletionGracePeriodSeconds", json!(0));
            self.write_quietly(&instance, held.then_some(marked)).await;
        }
        if left {
            return;
        }
        let mut finalizers = metadata::finalizers(&definition.object);
        finalizers.retain(|name| name != FINALIZER);
        let mut released = definition.object.clone();
        metadata::set_finalizers(&mut released, &finalizers);
        if !finalizers.is_empty() {
            self.write_quietly(definition, Some(released)).await;
            return;
        }
        // Not served before it is not there: whoever finds the definition gone finds its resource gone too.
        self.uninstall(&definition.key.name);
        if !self.write_quietly(definition, None).await {
            self.install(&definition.object);
        }
    }

    fn uninstall(&self, name: &str) {
        self.registry
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
    }

    /// Writes unless somebody else did; then the next round sees to it.
    async fn write_quietly(&self, stored: &Stored, object: Option<Value>) -> bool {
        let change = Change {
            key: stored.key.clone(),
            expect: Expect::Revision(stored.revision),
            object,
        };
        self.store
            .write(change)
            .await
            .inspect_err(|error| tracing::debug!(%error, "will be tried again"))
            .is_ok()
    }

    /// Refuses new instances of a definition that is going.
    pub(crate) fn refuse_new(&self, target: &Target) -> Result<(), Failure> {
        let resource = target.resource.as_ref();
        if resource.strategic() {
            return Ok(());
        }
        let name = format!("{}.{}", resource.plural(), resource.group());
        let definition = self.store.get(&Key::new(GROUP, PLURAL, "", &name));
        if definition.is_some_and(|definition| metadata::is_terminating(&definition.object)) {
            return Err(Failure::method_not_allowed());
        }
        Ok(())
    }
}

fn status_of(definition: &mut Value) -> &mut serde_json::Map<String, Value> {
    metadata::as_map(
        metadata::as_map(definition)
            .entry("status")
            .or_insert_with(|| json!({})),
    )
}

fn set_condition(definition: &mut Value, kind: &str, reason: &str, message: &str, now: Timestamp) {
    let conditions = status_of(definition)
        .entry("conditions")
        .or_insert_with(|| json!([]));
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(conditions) = conditions.as_array_mut() else {
        return;
    };
    if conditions
        .iter()
        .any(|condition| condition.get("type").and_then(Value::as_str) == Some(kind))
    {
        return;
    }
    conditions.push(json!({
        "type": kind, "status": "True", "lastTransitionTime": metadata::time(now),
        "reason": reason, "message": message,
    }));
}
