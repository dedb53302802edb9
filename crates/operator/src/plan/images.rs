//! A destination's images: from what was received to `status.latestImage`.

use k8s_openapi::api::core::v1::TypedLocalObjectReference;
use serde_json::json;
use syncline_api::{labels, names};

use super::consistency::{judge, mark_image};
use super::copies::{cut, is_ready};
use super::draft::{Draft, same};
use super::job::Run;
use super::{Change, Fault, Input, Kind};
use crate::subject::annotation;

/// The `kind` of an image that is a snapshot.
pub(super) const SNAPSHOT: &str = "VolumeSnapshot";
/// The `kind` of an image that is the volume itself.
pub(super) const CLAIM: &str = "PersistentVolumeClaim";

/// The image of a run that received everything; `None` while it is still to become ready.
pub(super) fn publish(
    draft: &mut Draft<'_>,
    input: &Input<'_>,
    run: &Run,
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
    let Some(claim) = input.world.claim(&run.claim) else {
        return Err(Fault::VolumeVanished {
            namespace: input.namespace().to_owned(),
            name: run.claim.clone(),
        });
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
            input.metadata(name),
            &run.claim,
            run.snapshot_class.clone(),
        );
        return Ok(None);
    };
    let Some(snapshot) = &input.world.snapshot else {
        cut(
            draft,
            input.metadata(name.to_owned()),
            &run.claim,
            run.snapshot_class.clone(),
        );
        return Ok(None);
    };
    input.check_owned(SNAPSHOT, Some(&snapshot.metadata))?;
    let ready = is_ready(draft, input, snapshot)?;
    if ready {
        mark_image(draft, snapshot);
        judge(draft, input, [&snapshot.metadata]);
    }
    Ok(ready.then(|| TypedLocalObjectReference {
        api_group: Some("snapshot.storage.k8s.io".to_owned()),
        kind: SNAPSHOT.to_owned(),
        name: name.to_owned(),
    }))
}
