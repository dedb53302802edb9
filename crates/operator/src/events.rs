//! Events of `events.k8s.io/v1`, with VolSync's reasons and actions, each emitted once on the edge.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};
use syncline_api::report::head;

use crate::kinds::Key;
use crate::plan::Note;
use crate::subject::Subject;

/// The controller that events say they come from; VolSync's users filter by it.
pub const CONTROLLER: &str = "volsync-controller";
/// Longest note that the API server takes, in bytes.
const LONGEST_NOTE: usize = 1024;

/// What makes an event the same as one before: resource, reason, the other object, and the words.
type Edge<K> = (K, &'static str, String, String);

/// What events are about.
pub trait Regarded {
    /// How the operator knows it.
    type Key: Clone + Eq + Hash;

    /// How the operator knows it.
    fn key(&self) -> &Self::Key;
    /// How events name it, with its name and namespace.
    fn reference(&self) -> ObjectReference;
}

impl Regarded for Subject {
    type Key = Key;

    fn key(&self) -> &Key {
        &self.key
    }

    fn reference(&self) -> ObjectReference {
        Self::reference(self)
    }
}

/// Emits events.
#[derive(Debug)]
pub struct Events<K = Key> {
    emitted: Mutex<HashSet<Edge<K>>>,
}

impl<K> Default for Events<K> {
    fn default() -> Self {
        Self {
            emitted: Mutex::new(HashSet::new()),
        }
    }
}

impl<K: Clone + Eq + Hash> Events<K> {
    /// Emits what was not emitted before. An event that the API server does not take is not worth a run.
    pub async fn emit(
        &self,
        client: &Client,
        subject: &impl Regarded<Key = K>,
        notes: &[Note],
        now: Timestamp,
    ) {
        for note in notes {
            if !self.is_new(subject, note) {
                continue;
            }
            let namespace = subject.reference().namespace.unwrap_or_default();
            let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
            let event = event(subject, note, now);
            if let Err(error) = api.create(&PostParams::default(), &event).await {
                tracing::warn!(event = event.name_any(), %error, "event not emitted");
            }
        }
    }

    /// Forgets a resource that is no more.
    pub fn forget(&self, key: &K) {
        self.emitted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|(known, ..)| known != key);
    }

    fn is_new(&self, subject: &impl Regarded<Key = K>, note: &Note) -> bool {
        let mut emitted = self.emitted.lock().unwrap_or_else(PoisonError::into_inner);
        // What is announced anew in each run must not pile up here: a run's first event makes room for its others.
        if note.reason == "TransferStarted" {
            emitted.retain(|(known, ..)| known != subject.key());
        }
        emitted.insert(edge(subject, note))
    }
}

fn edge<K: Clone>(subject: &impl Regarded<Key = K>, note: &Note) -> Edge<K> {
    let related = note.related.as_ref();
    let identity = related
        .and_then(|object| object.uid.clone().or_else(|| object.name.clone()))
        .unwrap_or_default();
    // Without a uid the object is only about to be made: each time that is planned is an edge of its own run.
    (
        subject.key().clone(),
        note.reason,
        identity,
        note.text.clone(),
    )
}

fn event(subject: &impl Regarded, note: &Note, now: Timestamp) -> Event {
    let regarding = subject.reference();
    // As client-go names events: the object's name and the time, in nanoseconds and hexadecimal.
    let stamp = u128::try_from(now.as_nanosecond()).unwrap_or_default();
    let name = format!(
        "{}.{stamp:x}.{}",
        head(regarding.name.as_deref().unwrap_or_default(), 200),
        note.reason.to_ascii_lowercase()
    );
    Event {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: regarding.namespace.clone(),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
        reason: Some(note.reason.to_owned()),
        action: Some(note.action.to_owned()),
        note: Some(head(&note.text, LONGEST_NOTE).to_owned()),
        regarding: Some(regarding),
        related: note.related.clone(),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(CONTROLLER.to_owned()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ObjectReference;
    use syncline_api::ReplicationSource;

    use super::*;

    fn subject() -> Subject {
        let mut source =
            ReplicationSource::new("db", syncline_api::ReplicationSourceSpec::default());
        source.metadata.namespace = Some("site-a".into());
        source.metadata.uid = Some("u1".into());
        Subject::of_source(&source)
    }

    fn note(reason: &'static str, uid: &str) -> Note {
        let related = ObjectReference {
            uid: Some(uid.into()),
            ..ObjectReference::default()
        };
        Note {
            warning: true,
            reason,
            action: "CreateMover",
            text: "text".into(),
            related: Some(related),
        }
    }

    #[test]
    fn an_event_is_emitted_once_for_each_object_it_concerns() {
        let (events, subject) = (Events::default(), subject());
        assert!(events.is_new(&subject, &note("TransferFailed", "job-1")));
        assert!(!events.is_new(&subject, &note("TransferFailed", "job-1")));
        assert!(events.is_new(&subject, &note("TransferFailed", "job-2")));
    }

    #[test]
    fn a_new_run_announces_itself_again() {
        let (events, subject) = (Events::default(), subject());
        assert!(events.is_new(&subject, &note("TransferStarted", "")));
        assert!(events.is_new(&subject, &note("TransferStarted", "")));
    }

    #[test]
    fn an_event_says_who_reports_it_and_what_it_is_about() {
        let event = event(
            &subject(),
            &note("TransferFailed", "job-1"),
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(
            event.reporting_controller.as_deref(),
            Some("volsync-controller")
        );
        assert_eq!(
            event.regarding.unwrap().kind.as_deref(),
            Some("ReplicationSource")
        );
        assert_eq!(event.metadata.name.as_deref(), Some("db.0.transferfailed"));
    }
}
