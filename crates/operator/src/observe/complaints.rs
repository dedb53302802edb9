//! What the cluster complains of: the newest warning event about an object that does not come to be.
//!
//! Events say what no status does: why a volume is not made, why a pod is not admitted. They are read only while something
//! is waited for, and only the words of the newest are kept.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::read::{Error, Reader};
use super::world::{Complaint, World};
use crate::plan::has_ended;

/// Reads what is complained of among what a run waits for.
pub(super) async fn complaints(reader: &Reader<'_>, world: &mut World) -> Result<(), Error> {
    let mut waited_for: Vec<String> = Vec::new();
    if let Some(job) = &world.job {
        waited_for.extend(of_job(job, &world.pods));
    }
    let claims = [&world.given_claim, &world.own_claim, &world.job_claim];
    waited_for.extend(
        claims
            .into_iter()
            .flatten()
            .filter(|claim| is_pending(claim))
            .filter_map(|claim| claim.metadata.uid.clone()),
    );
    for uid in waited_for {
        if let Some(complaint) = reader.complaint(&uid).await? {
            world.complaints.insert(uid, complaint);
        }
    }
    Ok(())
}

/// A Job that has no pod is not let have one; otherwise its pods may not come up.
fn of_job(job: &Job, pods: &[Pod]) -> Vec<String> {
    if has_ended(job) {
        return Vec::new();
    }
    if pods.is_empty() {
        return job.metadata.uid.clone().into_iter().collect();
    }
    let pending = pods.iter().filter(|pod| {
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        phase == Some("Pending")
    });
    pending.filter_map(|pod| pod.metadata.uid.clone()).collect()
}

fn is_pending(claim: &PersistentVolumeClaim) -> bool {
    let status = claim.status.as_ref();
    status.and_then(|status| status.phase.as_deref()) == Some("Pending")
}

/// The newest of the warnings.
pub(super) fn newest(events: Vec<Event>) -> Option<Complaint> {
    let warnings = events
        .into_iter()
        .filter(|event| event.type_.as_deref() == Some("Warning"));
    let newest = warnings.max_by_key(|event| happened(event).unwrap_or(Timestamp::UNIX_EPOCH))?;
    Some(Complaint {
        reason: newest.reason.unwrap_or_default(),
        message: newest.message.unwrap_or_default(),
    })
}

/// When an event happened last. Old and new emitters fill in different fields.
fn happened(event: &Event) -> Option<Timestamp> {
    let series = event
        .series
        .as_ref()
        .and_then(|series| series.last_observed_time.as_ref());
    let made = |metadata: &ObjectMeta| metadata.creation_timestamp.as_ref().map(|time| time.0);
    series
        .map(|time| time.0)
        .or_else(|| event.last_timestamp.as_ref().map(|time| time.0))
        .or_else(|| event.event_time.as_ref().map(|time| time.0))
        .or_else(|| made(&event.metadata))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn newest_of(events: Value) -> Option<Complaint> {
        newest(serde_json::from_value(events).unwrap())
    }

    fn event(kind: &str, reason: &str, when: &Value) -> Value {
        let mut event = json!({"metadata": {"name": reason}, "involvedObject": {}, "type": kind, "reason": reason, "message": "m"});
        event
            .as_object_mut()
            .unwrap()
            .extend(when.as_object().unwrap().clone());
        event
    }

    #[test]
    fn the_newest_warning_counts_however_its_emitter_writes_the_time() {
        let events = json!([
            event(
                "Warning",
                "Old",
                &json!({"lastTimestamp": "2026-01-01T00:00:00Z"})
            ),
            event(
                "Warning",
                "New",
                &json!({"eventTime": "2026-01-01T00:00:02.000000Z"})
            ),
            event(
                "Normal",
                "WaitForFirstConsumer",
                &json!({"lastTimestamp": "2026-01-01T00:00:09Z"})
            ),
            event(
                "Warning",
                "Repeated",
                &json!({"eventTime": "2026-01-01T00:00:00.000000Z",
                "series": {"count": 3, "lastObservedTime": "2026-01-01T00:00:01.000000Z"}})
            ),
        ]);
        assert_eq!(newest_of(events).unwrap().reason, "New");
        assert_eq!(
            newest_of(json!([event("Normal", "Fine", &json!({}))])),
            None
        );
    }
}
