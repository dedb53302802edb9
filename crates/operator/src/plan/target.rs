//! The volume that a destination writes to: the user's, or one of its own.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec};
use syncline_api::labels;
use syncline_api::names::{self, Side};

use super::copies::{Data, is_block, remind_unbound, requested, requests, usable};
use super::draft::{Draft, reference};
use super::placement::{Placement, beside_users};
use super::{Fault, Input, Object};
use crate::quantity;
use crate::subject::has_label;
use crate::validate::{DestinationVolume, Image, Target};

fn mode(block: bool) -> &'static str {
    if block { "Block" } else { "Filesystem" }
}

/// Sees to a destination's volume; `None` while it is not ready yet.
pub(super) fn prepare(
    draft: &mut Draft<'_>,
    input: &Input<'_>,
    destination: &DestinationVolume,
) -> Result<Option<Data>, Fault> {
    let (claim, present) = match &destination.target {
        Target::Given(claim) => (claim.clone(), Some(usable(input, claim)?)),
        Target::Made { .. } => {
            let present = input.world.own_claim.as_ref();
            if present.is_some_and(|claim| claim.metadata.deletion_timestamp.is_some()) {
                return Ok(None);
            }
            own_volume(draft, input, &destination.target)?;
            (
                names::data_pvc(input.mover(), Side::Destination, input.name()),
                present,
            )
        }
    };
    let placement = match present {
        Some(present) if destination.image == Image::Direct => beside_users(input, present)?,
        _ => Placement::default(),
    };
    // A claim of the user's is what it is; only what is made here is as the spec says.
    let block = match (&destination.target, present) {
        (_, Some(present)) => is_block(present),
        (Target::Made { block, .. }, None) => *block,
        (Target::Given(_), None) => false,
    };
    Ok(Some(Data {
        claim,
        read_only: false,
        block,
        placement,
    }))
}

/// Sees to a volume of our own: makes it, enlarges it, and lets it be temporary or not.
fn own_volume(draft: &mut Draft<'_>, input: &Input<'_>, target: &Target) -> Result<(), Fault> {
    let Target::Made {
        capacity,
        access_modes,
        storage_class,
        block,
        cleanup,
    } = target
    else {
        return Ok(());
    };
    let name = names::data_pvc(input.mover(), Side::Destination, input.name());
    let metadata = if *cleanup {
        input.temporary(name)
    } else {
        input.metadata(name)
    };
    let wanted = PersistentVolumeClaim {
        metadata,
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(access_modes.clone()),
            storage_class_name: storage_class.clone(),
            volume_mode: Some(mode(*block).to_owned()),
            resources: Some(requests(Some(capacity.clone()))),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    };
    let Some(present) = &input.world.own_claim else {
        let related = reference("v1", "PersistentVolumeClaim", &wanted.metadata);
        let text = "Made the volume that receives the data".to_owned();
        draft.note(
            "PersistentVolumeClaimCreated",
            "CreatePersistentVolumeClaim",
            text,
            Some(related),
        );
        draft.plan.apply.push(Object::Claim(Box::new(wanted)));
        return Ok(());
    };
    input.check_owned("PersistentVolumeClaim", Some(&present.metadata))?;
    remind_unbound(draft, input, present);
    if is_block(present) != *block {
        return Err(Fault::OtherVolumeMode {
            wanted: mode(*block),
            namespace: input.namespace().to_owned(),
            name: present.metadata.name.clone().unwrap_or_default(),
            present: mode(is_block(present)),
        });
    }
    let has = requested(present).and_then(quantity::bytes);
    if quantity::bytes(capacity) < has {
        return Err(Fault::CannotShrink {
            mover: input.mover().field(),
            capacity: capacity.0.clone(),
            namespace: input.namespace().to_owned(),
            name: present.metadata.name.clone().unwrap_or_default(),
            present: requested(present)
                .map(|size| size.0.clone())
                .unwrap_or_default(),
        });
    }
    let temporary = has_label(&present.metadata, labels::CLEANUP, &input.subject.uid);
    if quantity::bytes(capacity) != has || temporary != *cleanup {
        draft
            .plan
            .apply
            .push(Object::Claim(Box::new(changed(present, wanted))));
    }
    Ok(())
}

/// `wanted` with what cannot be changed any more taken from `present`: an apply that left it out or differed would be
/// refused. The storage class is filled in by the cluster when the spec names none.
fn changed(
    present: &PersistentVolumeClaim,
    mut wanted: PersistentVolumeClaim,
) -> PersistentVolumeClaim {
    if let (Some(spec), Some(fixed)) = (wanted.spec.as_mut(), present.spec.as_ref()) {
        spec.access_modes.clone_from(&fixed.access_modes);
        spec.storage_class_name
            .clone_from(&fixed.storage_class_name);
        spec.volume_mode.clone_from(&fixed.volume_mode);
    }
    wanted
}
