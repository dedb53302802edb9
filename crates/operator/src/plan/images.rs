//! A destination's images: from what was received to `status.latestImage`.

use k8s_openapi::api::core::v1::{Pod, TypedLocalObjectReference};
use serde_json::json;
use syncline_api::{labels, names};

use super::cleanup::{drop_unfinished_image, forget_snapshot_name};
use super::consistency::{judge, mark_image};
use super::copies::{cut, is_ready};
use super::draft::{Draft, same};
use super::job::Run;
use super::{Change, Fault, Input, Kind};
use crate::kinds::VolumeSnapshot;
use crate::subject::annotation;

/// The `kind` of an image that is a snapshot.
pub(super) const SNAPSHOT: &str = "VolumeSnapshot";
/// The `kind` of an image that is the volume itself.
pub(super) const CLAIM: &str = "PersistentVolumeClaim";

/// The image of a run in which `pod` received everything; `None` while it is still to become ready.
pub(super) fn publish(
    draft: &mut Draft<'_>,
    input: &Input<'_>,
    run: &Run,
    pod: Option<&str>,
) -> Result<Option<TypedLocalObjectReference>, Fault> {
    if !run.snapshot {
        // Nothing was copied, so what was said of an earlier copy holds no more.
        judge(draft, input, []);
        let group = Some(String::new());
        return Ok(Some(TypedLocalObjectReference {
            api_group: group,
            kind: CLAIM.to_owned(),
            name: run.claim.clone(),
        }));
    }
    let Some(snapshot) = sees_to_snapshot(draft, input, run, pod)? else {
        return Ok(None);
    };
    let ready = is_ready(draft, input, snapshot)?;
    if ready {
        mark_image(draft, snapshot);
        judge(draft, input, [&snapshot.metadata]);
    }
    Ok(ready.then(|| TypedLocalObjectReference {
        api_group: Some("snapshot.storage.k8s.io".to_owned()),
        kind: SNAPSHOT.to_owned(),
        name: snapshot.metadata.name.clone().unwrap_or_default(),
    }))
}

/// Begins to make the image of what `pod` says in its log that it received: from then on nothing writes to the volume any
/// more. Whether it becomes the image is decided when the pod has ended.
pub(super) fn begin(draft: &mut Draft<'_>, input: &Input<'_>, run: &Run, pod: &Pod) {
    if run.snapshot {
        // What is wrong is told when the image is needed.
        let _ = sees_to_snapshot(draft, input, run, pod.metadata.uid.as_deref());
    }
}

/// The snapshot of what `pod` received; `None` while it is still to be made.
fn sees_to_snapshot<'a>(
    draft: &mut Draft<'_>,
    input: &Input<'a>,
    run: &Run,
    pod: Option<&str>,
) -> Result<Option<&'a VolumeSnapshot>, Fault> {
    let Some(claim) = input.world.claim(&run.claim) else {
        return Err(Fault::VolumeVanished {
            namespace: input.namespace().to_owned(),
            name: run.claim.clone(),
        });
    };
    let metadata = |name: &str| {
        let mut metadata = input.metadata(name.to_owned());
        metadata.annotations =
            pod.map(|pod| [(labels::RECEIVED_BY.to_owned(), pod.to_owned())].into());
        metadata
    };
    let remembered =
        annotation(&claim.metadata, labels::SNAPSHOT_NAME).filter(|name| !name.is_empty());
    let Some(name) = remembered else {
        // The name is remembered before the snapshot exists, so that after a crash it is found and not made twice.
        let name = names::snapshot(&run.claim, input.now());
        draft.plan.changes.push(Change {
            target: same(Kind::Claim, &claim.metadata),
            patch: json!({ "metadata": { "annotations": { labels::SNAPSHOT_NAME: name } } }),
        });
        cut(
            draft,
            metadata(&name),
            &run.claim,
            run.snapshot_class.clone(),
        );
        return Ok(None);
    };
    let Some(snapshot) = &input.world.snapshot else {
        cut(
            draft,
            metadata(name),
            &run.claim,
            run.snapshot_class.clone(),
        );
        return Ok(None);
    };
    if !input.subject.owns(&snapshot.metadata) {
        // The user's since it was marked as to be kept, or never ours: under another name there is room.
        forget_snapshot_name(draft, input);
        return Ok(None);
    }
    let receiver = annotation(&snapshot.metadata, labels::RECEIVED_BY);
    if receiver.is_some() && receiver != pod {
        // It was begun for a pod that failed after all; the next one has written to the volume since.
        drop_unfinished_image(draft, input);
        return Ok(None);
    }
    Ok(Some(snapshot))
}
