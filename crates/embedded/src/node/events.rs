//! Events about objects, as the kubelet, the scheduler and the Job controller write them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Resource, ResourceExt as _};
use serde_json::json;

use crate::clock::Clock;

/// The most kinds of Events that are remembered for counting; a new one costs an object then, nothing else.
const REMEMBERED: usize = 4096;

/// Whether an Event tells of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    /// `Normal`
    Normal,
    /// `Warning`
    Warning,
}

/// What makes two Events the same: the object's uid, the reason, the message.
type Sameness = (String, String, String);
/// The Event's name, and how often it came.
type Counted = (String, i32);

/// Writes Events; the same one again raises the count of the first.
#[derive(Clone)]
pub(crate) struct Recorder {
    client: Client,
    clock: Arc<dyn Clock>,
    component: &'static str,
    known: Arc<Mutex<HashMap<Sameness, Counted>>>,
}

impl Recorder {
    /// A recorder of `component`, for instance `kubelet`.
    pub(crate) fn new(client: Client, clock: Arc<dyn Clock>, component: &'static str) -> Self {
        Self {
            client,
            clock,
            component,
            known: Arc::default(),
        }
    }

    /// Writes an Event about `object`. A failure is logged only: no work depends on Events.
    pub(crate) async fn record<K>(
        &self,
        object: &K,
        severity: Severity,
        reason: &str,
        message: &str,
    ) where
        K: Resource<DynamicType = ()>,
    {
        if let Err(error) = self.try_record(object, severity, reason, message).await {
            tracing::debug!(%error, reason, "an Event could not be written");
        }
    }

    async fn try_record<K>(
        &self,
        object: &K,
        severity: Severity,
        reason: &str,
        message: &str,
    ) -> kube::Result<()>
    where
        K: Resource<DynamicType = ()>,
    {
        let namespace = object.namespace().unwrap_or_else(|| "default".to_owned());
        let events: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let key = (
            object.uid().unwrap_or_default(),
            reason.to_owned(),
            message.to_owned(),
        );
        let now = Time(self.clock.now());
        if let Some((name, count)) = self.known_event(&key) {
            let again = json!({ "count": count, "lastTimestamp": now });
            match events
                .patch(&name, &PatchParams::default(), &Patch::Merge(&again))
                .await
            {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                other => return other.map(drop),
            }
        }
        let name = format!("{}.{:016x}", object.name_any(), rand::random::<u64>());
        let event = Event {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(namespace),
                ..ObjectMeta::default()
            },
            involved_object: reference(object),
            type_: Some(match severity {
                Severity::Normal => "Normal".to_owned(),
                Severity::Warning => "Warning".to_owned(),
            }),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            count: Some(1),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            source: Some(EventSource {
                component: Some(self.component.to_owned()),
                host: None,
            }),
            reporting_component: Some(self.component.to_owned()),
            ..Event::default()
        };
        events.create(&PostParams::default(), &event).await?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(key, (name, 1));
        Ok(())
    }

    fn known_event(&self, key: &Sameness) -> Option<Counted> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get_mut(key).map(|(name, count)| {
            *count += 1;
            (name.clone(), *count)
        })
    }
}

fn reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        name: object.meta().name.clone(),
        namespace: object.meta().namespace.clone(),
        uid: object.uid(),
        resource_version: object.resource_version(),
        field_path: None,
    }
}
