//! A plan in the making.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::Value;
use syncline_api::conditions::{self, NewCondition};
use syncline_api::labels;

use super::fault::INVALID_SPEC;
use super::{Existing, Fault, Input, Kind, Note, Object, Plan};
use crate::apply::FIELD_MANAGER;
use crate::kinds::kind_of;
use crate::status::State;
use crate::validate::Invalid;

/// A plan in the making, with the status that it will record.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    input: &'a Input<'a>,
    pub(super) plan: Plan,
    pub(super) state: State,
    /// What a run waits for longer than it should.
    waits: Option<String>,
    /// Why a try failed that the present one follows within the same Job.
    failed: Option<String>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(input: &'a Input<'a>) -> Self {
        Self {
            input,
            plan: Plan::default(),
            state: state(input),
            waits: None,
            failed: None,
        }
    }

    /// Lets what is said of a run in progress be what it waits for.
    pub(super) fn wait_for(&mut self, what: String) {
        self.waits = Some(what);
    }

    /// Lets what is said of a run in progress have the cause of the Job's try before.
    pub(super) fn follows(&mut self, failed: &Fault) {
        self.failed = Some(failed.to_string());
    }

    /// Lets nothing be said of the last failed try any more: what is tried next is something else.
    pub(super) fn forget_cause(&mut self) {
        if let Some(retry) = self.state.retry.as_mut() {
            retry.cause = None;
        }
    }

    /// Says what is going on, with nothing wrong.
    pub(super) fn say(&mut self, synchronizing: NewCondition) {
        let generation = self.input.subject.generation;
        let synchronizing = self.in_full(synchronizing);
        conditions::set(&mut self.state.conditions, synchronizing, self.input.now());
        conditions::set(
            &mut self.state.conditions,
            conditions::reconcile_complete(generation),
            self.input.now(),
        );
    }

    /// Says that data is moving while something else is wrong.
    pub(super) fn say_despite(&mut self, synchronizing: NewCondition, message: &str) {
        let generation = self.input.subject.generation;
        let synchronizing = self.in_full(synchronizing);
        conditions::set(&mut self.state.conditions, synchronizing, self.input.now());
        conditions::set(
            &mut self.state.conditions,
            conditions::reconcile_error(generation, message),
            self.input.now(),
        );
    }

    /// What is going on, with what it waits for, and why the try before failed: while the next one lasts nothing else tells.
    fn in_full(&mut self, mut synchronizing: NewCondition) -> NewCondition {
        if synchronizing.reason == conditions::ERROR {
            return synchronizing;
        }
        if synchronizing.reason == conditions::SYNC_IN_PROGRESS
            && let Some(waits) = self.waits.take()
        {
            synchronizing.message = waits;
        }
        let failed = self.failed.take();
        let before = failed.as_deref().map(|cause| (1, cause));
        if let Some((failures, cause)) = before.or_else(|| self.state.failed_before()) {
            synchronizing.message =
                conditions::after_failures(&synchronizing.message, failures, cause);
        }
        synchronizing
    }

    /// Says what is wrong.
    pub(super) fn complain(&mut self, message: &str) {
        let synchronizing = conditions::sync_error(self.input.subject.generation, message);
        self.say_despite(synchronizing, message);
    }

    /// Says what keeps a run from beginning, or from its end, and in an event, too.
    pub(super) fn complain_of(&mut self, fault: &Fault) {
        let words = fault.to_string();
        self.announce(fault.word(), &fault.beginning(), &words);
        self.complain(&words);
    }

    /// Says what is wrong with the spec, and in an event, too.
    pub(super) fn complain_of_spec(&mut self, invalid: &Invalid) {
        let words = invalid.to_string();
        self.announce(INVALID_SPEC, &words, &words);
        self.complain(&words);
    }

    /// Plans the warning of a complaint that begins with these words, unless it is told, or an event of the same look has its
    /// reason already.
    fn announce(&mut self, reason: &'static str, beginning: &str, text: &str) {
        let mut planned = self.plan.events.iter();
        if !self.is_told(beginning) && planned.all(|note| note.reason != reason) {
            self.warn(reason, "CreateMover", text.to_owned(), None);
        }
    }

    /// Whether the status says already what begins with these words. The event came with the status then, and an operator
    /// that starts anew while a thousand are kept from running does not repeat all of theirs.
    pub(super) fn is_told(&self, beginning: &str) -> bool {
        conditions::complains_of(&self.input.subject.state.conditions, beginning)
    }

    /// Wants to be looked at again at `at`, or earlier if that was wanted already. The past means at once.
    pub(super) fn wake(&mut self, at: Timestamp) {
        self.plan.wake = Some(self.plan.wake.map_or(at, |known| known.min(at)));
    }

    /// Plans to apply `wanted`, unless what is there has it all already.
    pub(super) fn ensure<T: Serialize>(
        &mut self,
        present: Option<&T>,
        wanted: T,
        wrap: impl FnOnce(Box<T>) -> Object,
    ) {
        let satisfied = present.is_some_and(|present| {
            match (serde_json::to_value(present), serde_json::to_value(&wanted)) {
                (Ok(present), Ok(wanted)) => {
                    contains(&present, &wanted) && !has_leftovers(&present, &wanted)
                }
                _ => false,
            }
        });
        if !satisfied {
            self.plan.apply.push(wrap(Box::new(wanted)));
        }
    }

    /// An event.
    pub(super) fn note(
        &mut self,
        reason: &'static str,
        action: &'static str,
        text: String,
        related: Option<ObjectReference>,
    ) {
        self.plan.events.push(Note {
            warning: false,
            reason,
            action,
            text,
            related,
        });
    }

    /// A warning event.
    pub(super) fn warn(
        &mut self,
        reason: &'static str,
        action: &'static str,
        text: String,
        related: Option<ObjectReference>,
    ) {
        self.plan.events.push(Note {
            warning: true,
            reason,
            action,
            text,
            related,
        });
    }

    /// Plans to delete an object, if it is not on its way out already.
    pub(super) fn delete(&mut self, kind: Kind, metadata: &ObjectMeta) {
        if metadata.deletion_timestamp.is_none() {
            let target = existing(kind, metadata);
            if !self.plan.delete.contains(&target) {
                self.plan.delete.push(target);
            }
        }
    }

    pub(super) fn finish(mut self) -> Plan {
        // What was refused may be refused again. Were the status to say otherwise until then, the two would take turns
        // with a write each, and every write would be the event that starts the next turn.
        if let Some(words) = &self.input.world.refusal
            && (self.plan.apply.len() + self.plan.changes.len() + self.plan.delete.len()) > 0
        {
            self.complain(words);
            // If it is taken this time, the next look says so.
            self.wake(self.input.now());
        }
        self.plan.status = Some(self.state);
        self.plan
    }
}

/// The status as it was, with what the operator may not do at the moment.
fn state(input: &Input<'_>) -> State {
    let mut state = input.subject.state.clone();
    match &input.world.forbidden {
        Some(words) => {
            let forbidden = conditions::forbidden(input.subject.generation, words);
            conditions::set(&mut state.conditions, forbidden, input.now());
        }
        None => state
            .conditions
            .retain(|condition| condition.type_ != conditions::FORBIDDEN),
    }
    if let Some(rclone) = &mut state.rclone
        && !input
            .subject
            .annotations
            .contains_key(labels::RCLONE_TAKE_OVER)
    {
        // Told once more it counts once more.
        rclone.took_over = None;
    }
    state
}

/// An object, and the version of it that a decision rests on.
pub(super) fn existing(kind: Kind, metadata: &ObjectMeta) -> Existing {
    Existing {
        resource_version: metadata.resource_version.clone(),
        ..same(kind, metadata)
    }
}

/// An object, whatever else happens to it meanwhile.
pub(super) fn same(kind: Kind, metadata: &ObjectMeta) -> Existing {
    Existing {
        kind,
        name: metadata.name.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
        resource_version: None,
    }
}

/// The reference to an object by which events name it.
pub(super) fn reference(api_version: &str, kind: &str, metadata: &ObjectMeta) -> ObjectReference {
    ObjectReference {
        api_version: Some(api_version.to_owned()),
        kind: Some(kind.to_owned()),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

impl Input<'_> {
    /// The metadata of an object made for the resource.
    pub(super) fn metadata(&self, name: String) -> ObjectMeta {
        ObjectMeta {
            name: Some(name),
            namespace: Some(self.namespace().to_owned()),
            labels: Some(
                [(
                    labels::CREATED_BY.to_owned(),
                    labels::CREATED_BY_VOLSYNC.to_owned(),
                )]
                .into(),
            ),
            owner_references: Some(vec![self.subject.owner()]),
            ..ObjectMeta::default()
        }
    }

    /// The metadata of an object that goes at the end of the iteration.
    pub(super) fn temporary(&self, name: String) -> ObjectMeta {
        let mut metadata = self.metadata(name);
        metadata
            .labels
            .get_or_insert_default()
            .insert(labels::CLEANUP.to_owned(), self.subject.uid.clone());
        metadata
    }

    /// Refuses an object with the name of ours that is not ours.
    pub(super) fn check_owned(
        &self,
        kind: &'static str,
        metadata: Option<&ObjectMeta>,
    ) -> Result<(), Fault> {
        match metadata {
            Some(metadata) if !self.subject.owns(metadata) => Err(Fault::NameConflict {
                kind,
                namespace: self.namespace().to_owned(),
                name: metadata.name.clone().unwrap_or_default(),
                owner: kind_of(self.subject.key.side),
            }),
            _ => Ok(()),
        }
    }
}

/// Whether `present` has labels or annotations that we gave it and that `wanted` has no more. Those of others are theirs.
fn has_leftovers(present: &Value, wanted: &Value) -> bool {
    let is = |entry: &Value, field: &str, value: &str| {
        entry.get(field).and_then(Value::as_str) == Some(value)
    };
    let entries = present.pointer("/metadata/managedFields");
    let ours = entries
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|entry| is(entry, "manager", FIELD_MANAGER) && is(entry, "operation", "Apply"));
    let mut given = ours.flat_map(|entry| {
        ["labels", "annotations"].into_iter().flat_map(move |part| {
            let path = format!("/fieldsV1/f:metadata/f:{part}");
            let names = entry.pointer(&path).and_then(Value::as_object);
            names
                .into_iter()
                .flat_map(|names| names.keys())
                .filter_map(move |name| Some((part, name.strip_prefix("f:")?)))
        })
    });
    let metadata = wanted.get("metadata");
    given.any(|(part, name)| {
        metadata
            .and_then(|metadata| metadata.get(part)?.get(name))
            .is_none()
    })
}

/// Whether `present` has everything that `wanted` has. Servers and others add fields and list entries of their own.
pub(super) fn contains(present: &Value, wanted: &Value) -> bool {
    match (present, wanted) {
        (Value::Object(present), Value::Object(wanted)) => wanted.iter().all(|(name, value)| {
            present
                .get(name)
                .is_some_and(|known| contains(known, value))
        }),
        (Value::Array(present), Value::Array(wanted)) => wanted
            .iter()
            .all(|value| present.iter().any(|known| contains(known, value))),
        _ => present == wanted,
    }
}
