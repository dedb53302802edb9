//! How consistent a copy is, as far as the storage says so: in a condition of the resource, and on the image.
//!
//! A driver that cannot copy at one instant copies until a pass sees no change. When none does, the copy mixes states of
//! the volume, and whoever would start from it has to know.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use syncline_api::conditions::{self, NewCondition};
use syncline_api::labels;

use super::draft::{Draft, same};
use super::{Change, Input, Kind};
use crate::kinds::VolumeSnapshot;
use crate::subject::annotation;

/// Type of the condition. It is there only where the storage says how consistent its copies are.
const CONSISTENT: &str = "Consistent";
/// What the embedded cluster's driver says of a copy: `atomic`, `per-file` or `none`.
const DRIVER_SAYS: &str = "embedded.syncline.dev/consistency";
/// What it says when the volume would not hold still.
const DRIVER_COMPLAINS: &str = "embedded.syncline.dev/unsettled";

/// Says of a finished run what its copies were worth. The worst of them counts; without a word of any, nothing is said.
pub(super) fn judge<'m>(
    draft: &mut Draft<'_>,
    input: &Input<'_>,
    copies: impl IntoIterator<Item = &'m ObjectMeta>,
) {
    let mut judged: Option<NewCondition> = None;
    for copy in copies {
        let Some(word) = annotation(copy, DRIVER_SAYS) else {
            continue;
        };
        let unsettled = annotation(copy, DRIVER_COMPLAINS);
        let name = copy.name.as_deref().unwrap_or_default();
        let verdict = verdict(input, (name, word), unsettled);
        if judged.as_ref().is_none_or(|known| known.holds) {
            judged = Some(verdict);
        }
    }
    match judged {
        Some(condition) => {
            conditions::set(&mut draft.state.conditions, condition, input.now());
        }
        None => draft
            .state
            .conditions
            .retain(|condition| condition.type_ != CONSISTENT),
    }
}

fn verdict(input: &Input<'_>, (name, word): (&str, &str), unsettled: Option<&str>) -> NewCondition {
    let (holds, reason, message) = match (word, unsettled) {
        ("atomic", _) => (true, "Atomic", format!("The copy {name} is of one instant")),
        (_, None) => (
            true,
            "Settled",
            format!(
                "The copy {name} was repeated until nothing changed meanwhile (consistency {word})"
            ),
        ),
        (_, Some(changes)) => (
            false,
            "VolumeWasChanging",
            format!(
                "The copy {name} mixes states of the volume (consistency {word}): {changes}; hold the writers during the \
                 copy, or keep the volume on storage that can snapshot, such as btrfs"
            ),
        ),
    };
    NewCondition {
        type_: CONSISTENT,
        holds,
        reason,
        message,
        observed_generation: input.subject.generation,
    }
}

/// Plans to note on an image what its driver says of it, under the name that images have it by everywhere.
pub(super) fn mark_image(draft: &mut Draft<'_>, snapshot: &VolumeSnapshot) {
    let metadata = &snapshot.metadata;
    let Some(word) = annotation(metadata, DRIVER_SAYS) else {
        return;
    };
    if annotation(metadata, labels::CONSISTENCY) != Some(word) {
        draft.plan.changes.push(Change {
            target: same(Kind::Snapshot, metadata),
            patch: json!({ "metadata": { "annotations": { labels::CONSISTENCY: word } } }),
        });
    }
}
