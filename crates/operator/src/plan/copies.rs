//! The volume that a run reads or writes: a source's point-in-time copy, or a destination's own.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, TypedLocalObjectReference,
    VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use syncline_api::labels;
use syncline_api::names::{self, Mover, Side};

use super::draft::{Draft, reference};
use super::placement::{Placement, access_modes, beside_users};
use super::trigger::{self, Leave};
use super::{Fault, Input, Kind, Object, target};
use crate::kinds::{VolumeSnapshot, VolumeSnapshotOrigin, VolumeSnapshotSpec};
use crate::observe::Found;
use crate::quantity;
use crate::subject::annotation;
use crate::validate::{DestinationVolume, Image, PointInTime, SourceVolume, Target, Volume};

/// How long a claim may be unbound before an event says so.
const BOUND_WITHIN: SignedDuration = SignedDuration::from_mins(2);
/// How long a snapshot may be unbound before an event says so.
const CUT_WITHIN: SignedDuration = SignedDuration::from_secs(30);
/// How long a driver may try to make a snapshot before a new one is asked for.
const GIVE_UP_AFTER: SignedDuration = SignedDuration::from_mins(5);

/// The volume of a run.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Data {
    /// The claim.
    pub(super) claim: String,
    /// Whether it is mounted for reading only.
    pub(super) read_only: bool,
    /// Whether it is a block device instead of a file system.
    pub(super) block: bool,
    /// Where the mover has to run.
    pub(super) placement: Placement,
}

/// Sees to the volume; `None` while it is not ready yet.
pub(super) fn prepare(
    draft: &mut Draft<'_>,
    input: &Input<'_>,
    volume: &Volume,
) -> Result<Option<Data>, Fault> {
    check_classes(input, volume)?;
    match volume {
        Volume::Source(source) => prepare_source(draft, input, source),
        Volume::Destination(destination) => target::prepare(draft, input, destination),
    }
}

/// What has to be there before a run is worth starting: without the user's claim or a class nothing is even tried.
pub(super) fn check(input: &Input<'_>, volume: &Volume) -> Result<(), Fault> {
    check_classes(input, volume)?;
    let name = match volume {
        Volume::Source(source) => &source.claim,
        Volume::Destination(DestinationVolume {
            target: Target::Given(claim),
            ..
        }) => claim,
        Volume::Destination(_) => return Ok(()),
    };
    usable(input, name).map(|_| ())
}

pub(super) fn usable<'a>(
    input: &Input<'a>,
    name: &str,
) -> Result<&'a PersistentVolumeClaim, Fault> {
    let namespace = input.namespace().to_owned();
    let Some(claim) = &input.world.given_claim else {
        return Err(Fault::claim_missing(
            (input.subject.key.side, input.mover()),
            &namespace,
            name,
        ));
    };
    if claim
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        == Some("Lost")
    {
        return Err(Fault::ClaimLost {
            namespace,
            name: name.to_owned(),
        });
    }
    if is_block(claim) && input.mover() != Mover::Rsync {
        return Err(Fault::DeviceNotCarried {
            mover: input.mover().field(),
            namespace,
            name: name.to_owned(),
        });
    }
    Ok(claim)
}

/// A claim that there is something to copy of.
fn bound<'a>(input: &Input<'a>, name: &str) -> Result<&'a PersistentVolumeClaim, Fault> {
    let claim = usable(input, name)?;
    let status = claim.status.as_ref();
    if status.and_then(|status| status.phase.as_deref()) != Some("Pending") {
        return Ok(claim);
    }
    let (namespace, name) = (input.namespace().to_owned(), name.to_owned());
    Err(match input.world.complaint(&claim.metadata) {
        Some(complaint) => Fault::ClaimUnbound {
            namespace,
            name,
            reason: format!("{}: {}", complaint.reason, complaint.message),
        },
        None => Fault::NothingToCopy { namespace, name },
    })
}

/// Checks the classes of what is still to be made: a volume that is there already needs its class no more.
fn check_classes(input: &Input<'_>, volume: &Volume) -> Result<(), Fault> {
    let (storage, snapshot, snapshots, instead) = match volume {
        Volume::Source(source) => {
            let snapshots = source.method == PointInTime::Snapshot;
            let copied = source.method != PointInTime::Direct;
            (
                source.storage_class.as_ref().filter(|_| copied),
                source.snapshot_class.as_ref(),
                snapshots,
                "Clone or Direct",
            )
        }
        Volume::Destination(destination) => {
            let storage = match &destination.target {
                Target::Made { storage_class, .. } if input.world.own_claim.is_none() => {
                    storage_class.as_ref()
                }
                Target::Made { .. } | Target::Given(_) => None,
            };
            (
                storage,
                destination.snapshot_class.as_ref(),
                destination.image == Image::Snapshot,
                "Direct",
            )
        }
    };
    if let (Some(name), Found::Missing) = (storage, input.world.storage_class) {
        return Err(Fault::StorageClassMissing {
            mover: input.mover().field(),
            name: name.clone(),
        });
    }
    if snapshots && !input.world.snapshots_known {
        return Err(Fault::SnapshotsUnknown { instead });
    }
    if let (true, Some(name), Found::Missing) = (snapshots, snapshot, input.world.snapshot_class) {
        return Err(Fault::SnapshotClassMissing {
            mover: input.mover().field(),
            name: name.clone(),
        });
    }
    Ok(())
}

fn prepare_source(
    draft: &mut Draft<'_>,
    input: &Input<'_>,
    source: &SourceVolume,
) -> Result<Option<Data>, Fault> {
    if source.method == PointInTime::Direct {
        let claim = usable(input, &source.claim)?;
        let placement = beside_users(input, claim)?;
        return Ok(Some(Data {
            claim: source.claim.clone(),
            read_only: read_only(claim),
            block: is_block(claim),
            placement,
        }));
    }
    let name = names::data_pvc(input.mover(), Side::Source, input.name());
    if let Some(copy) = &input.world.own_claim {
        input.check_owned("PersistentVolumeClaim", Some(&copy.metadata))?;
        if copy.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        remind_unbound(draft, input, copy);
        return Ok(Some(Data {
            claim: name,
            read_only: read_only(copy),
            block: is_block(copy),
            placement: Placement::default(),
        }));
    }
    let origin = bound(input, &source.claim)?;
    let (mut copied, trigger) = match source.method {
        PointInTime::Snapshot => match ready_snapshot(draft, input, source, origin)? {
            Some(snapshot) => {
                let trigger = annotation(&snapshot.metadata, labels::MADE_FOR_TRIGGER);
                let trigger = trigger.map(str::to_owned);
                (from_snapshot(input, source, origin, snapshot)?, trigger)
            }
            None => return Ok(None),
        },
        PointInTime::Clone | PointInTime::Direct => {
            let copied = from_claim(input, source, origin)?;
            match trigger::ask(draft, input, origin) {
                Leave::Given(trigger) => (copied, trigger),
                Leave::NotYet => return Ok(None),
            }
        }
    };
    trigger::mark(&mut copied.metadata, trigger);
    let related = reference("v1", "PersistentVolumeClaim", &copied.metadata);
    let (read_only, block) = (read_only(&copied), is_block(&copied));
    draft.note(
        "PersistentVolumeClaimCreated",
        "CreatePersistentVolumeClaim",
        "Made the copy that is sent".to_owned(),
        Some(related),
    );
    draft.plan.apply.push(Object::Claim(Box::new(copied)));
    Ok(Some(Data {
        claim: name,
        read_only,
        block,
        placement: Placement::default(),
    }))
}

/// The snapshot of the source, once a volume can be made from it.
fn ready_snapshot<'a>(
    draft: &mut Draft<'_>,
    input: &Input<'a>,
    source: &SourceVolume,
    origin: &PersistentVolumeClaim,
) -> Result<Option<&'a VolumeSnapshot>, Fault> {
    let name = names::source_snapshot(input.name());
    let Some(snapshot) = &input.world.snapshot else {
        let Leave::Given(trigger) = trigger::ask(draft, input, origin) else {
            return Ok(None);
        };
        let mut metadata = input.temporary(name);
        trigger::mark(&mut metadata, trigger);
        cut(
            draft,
            metadata,
            &source.claim,
            source.snapshot_class.clone(),
        );
        return Ok(None);
    };
    input.check_owned("VolumeSnapshot", Some(&snapshot.metadata))?;
    if is_ready(draft, input, snapshot)? {
        Ok(Some(snapshot))
    } else {
        Ok(None)
    }
}

/// Plans a snapshot of `claim`.
pub(super) fn cut(draft: &mut Draft<'_>, metadata: ObjectMeta, claim: &str, class: Option<String>) {
    let source = VolumeSnapshotOrigin {
        persistent_volume_claim_name: Some(claim.to_owned()),
        ..VolumeSnapshotOrigin::default()
    };
    let snapshot = VolumeSnapshot {
        metadata,
        spec: VolumeSnapshotSpec {
            source,
            volume_snapshot_class_name: class,
        },
        status: None,
    };
    let related = reference(
        "snapshot.storage.k8s.io/v1",
        "VolumeSnapshot",
        &snapshot.metadata,
    );
    draft.note(
        "VolumeSnapshotCreated",
        "CreateVolumeSnapshot",
        format!("Made a snapshot of volume {claim}"),
        Some(related),
    );
    draft.plan.apply.push(Object::Snapshot(Box::new(snapshot)));
}

/// Whether a volume can be made from a snapshot: it is bound, ready and not on its way out.
pub(super) fn is_ready(
    draft: &mut Draft<'_>,
    input: &Input<'_>,
    snapshot: &VolumeSnapshot,
) -> Result<bool, Fault> {
    if snapshot.metadata.deletion_timestamp.is_some() {
        return Ok(false);
    }
    let status = snapshot.status.clone().unwrap_or_default();
    let bound = status
        .bound_volume_snapshot_content_name
        .is_some_and(|name| !name.is_empty());
    if bound && status.ready_to_use == Some(true) {
        return Ok(true);
    }
    let age = snapshot
        .metadata
        .creation_timestamp
        .as_ref()
        .map(|created| (created.0, input.now().duration_since(created.0)));
    if let Some(error) = status.error {
        match age {
            Some((_, age)) if age >= GIVE_UP_AFTER => {
                draft.delete(Kind::Snapshot, &snapshot.metadata);
            }
            Some((created, _)) => draft.wake(created + GIVE_UP_AFTER),
            None => {}
        }
        return Err(Fault::SnapshotFailed {
            namespace: input.namespace().to_owned(),
            name: snapshot.metadata.name.clone().unwrap_or_default(),
            reason: error
                .message
                .unwrap_or_else(|| "the driver gives no reason".to_owned()),
        });
    }
    match age {
        Some((created, age)) if age < CUT_WITHIN => draft.wake(created + CUT_WITHIN),
        Some(_) => remind_unready(draft, input, snapshot, bound),
        None => {}
    }
    Ok(false)
}

/// Says that a snapshot takes long. Large ones may well, so that is no fault.
fn remind_unready(
    draft: &mut Draft<'_>,
    input: &Input<'_>,
    snapshot: &VolumeSnapshot,
    bound: bool,
) {
    if !bound {
        let related = reference(
            "snapshot.storage.k8s.io/v1",
            "VolumeSnapshot",
            &snapshot.metadata,
        );
        let text = "Snapshot is not bound yet; see its own events".to_owned();
        draft.warn(
            "VolumeSnapshotNotBound",
            "CreateVolumeSnapshot",
            text,
            Some(related),
        );
    }
    draft.wait_for(format!(
        "Waiting for VolumeSnapshot {}/{} to be ready to use, which its driver has not made it yet; its events and the driver's log tell more",
        input.namespace(),
        snapshot.metadata.name.as_deref().unwrap_or_default(),
    ));
}

fn from_claim(
    input: &Input<'_>,
    source: &SourceVolume,
    origin: &PersistentVolumeClaim,
) -> Result<PersistentVolumeClaim, Fault> {
    let own_size = size_of(origin);
    if let (Some(asked), Some(needed)) = (&source.capacity, &own_size) {
        check_size(input, (asked, needed), || {
            format!(
                "a clone of PersistentVolumeClaim {}/{}",
                input.namespace(),
                source.claim
            )
        })?;
    }
    let origin_reference = TypedLocalObjectReference {
        api_group: None,
        kind: "PersistentVolumeClaim".to_owned(),
        name: source.claim.clone(),
    };
    Ok(copy(
        input,
        source,
        origin,
        (source.capacity.clone().or(own_size), origin_reference),
    ))
}

fn from_snapshot(
    input: &Input<'_>,
    source: &SourceVolume,
    origin: &PersistentVolumeClaim,
    snapshot: &VolumeSnapshot,
) -> Result<PersistentVolumeClaim, Fault> {
    let name = snapshot.metadata.name.clone().unwrap_or_default();
    let restore_size = snapshot
        .status
        .as_ref()
        .and_then(|status| status.restore_size.clone());
    let restore_size =
        restore_size.filter(|size| quantity::bytes(size).is_some_and(|bytes| bytes > 0));
    if let (Some(asked), Some(needed)) = (&source.capacity, &restore_size) {
        check_size(input, (asked, needed), || {
            format!("VolumeSnapshot {}/{name}", input.namespace())
        })?;
    }
    let size = source
        .capacity
        .clone()
        .or(restore_size)
        .or_else(|| size_of(origin));
    let origin_reference = TypedLocalObjectReference {
        api_group: Some("snapshot.storage.k8s.io".to_owned()),
        kind: "VolumeSnapshot".to_owned(),
        name,
    };
    Ok(copy(input, source, origin, (size, origin_reference)))
}

fn check_size(
    input: &Input<'_>,
    (asked, needed): (&Quantity, &Quantity),
    origin: impl FnOnce() -> String,
) -> Result<(), Fault> {
    match (quantity::bytes(asked), quantity::bytes(needed)) {
        (Some(asked_bytes), Some(needed_bytes)) if asked_bytes < needed_bytes => {
            Err(Fault::CapacityTooSmall {
                mover: input.mover().field(),
                capacity: asked.0.clone(),
                origin: origin(),
                needed: needed.0.clone(),
            })
        }
        _ => Ok(()),
    }
}

/// What a claim got, or else what it asks for.
fn size_of(claim: &PersistentVolumeClaim) -> Option<Quantity> {
    let got = claim
        .status
        .as_ref()
        .and_then(|status| status.capacity.as_ref()?.get("storage").cloned());
    got.or_else(|| requested(claim).cloned())
}

pub(super) fn requested(claim: &PersistentVolumeClaim) -> Option<&Quantity> {
    claim
        .spec
        .as_ref()?
        .resources
        .as_ref()?
        .requests
        .as_ref()?
        .get("storage")
}

fn copy(
    input: &Input<'_>,
    source: &SourceVolume,
    origin: &PersistentVolumeClaim,
    (size, data_source): (Option<Quantity>, TypedLocalObjectReference),
) -> PersistentVolumeClaim {
    let origin_spec = origin.spec.clone().unwrap_or_default();
    PersistentVolumeClaim {
        metadata: input.temporary(names::data_pvc(input.mover(), Side::Source, input.name())),
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: source.access_modes.clone().or(origin_spec.access_modes),
            storage_class_name: source
                .storage_class
                .clone()
                .or(origin_spec.storage_class_name),
            volume_mode: origin_spec.volume_mode,
            data_source: Some(data_source),
            resources: Some(requests(size)),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

pub(super) fn requests(size: Option<Quantity>) -> VolumeResourceRequirements {
    let requests = size.map(|size| [("storage".to_owned(), size)].into());
    VolumeResourceRequirements {
        requests,
        limits: None,
    }
}

/// A volume that nobody may write is mounted for reading only.
fn read_only(claim: &PersistentVolumeClaim) -> bool {
    access_modes(claim) == ["ReadOnlyMany"]
}

/// Whether a claim is a block device.
pub(super) fn is_block(claim: &PersistentVolumeClaim) -> bool {
    let spec = claim.spec.as_ref();
    spec.and_then(|spec| spec.volume_mode.as_deref()) == Some("Block")
}

pub(super) fn remind_unbound(
    draft: &mut Draft<'_>,
    input: &Input<'_>,
    claim: &PersistentVolumeClaim,
) {
    let bound = claim
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        == Some("Bound");
    let Some(created) = claim
        .metadata
        .creation_timestamp
        .as_ref()
        .filter(|_| !bound)
    else {
        return;
    };
    let late = created.0 + BOUND_WITHIN;
    if input.now() < late {
        draft.wake(late);
        return;
    }
    let related = reference("v1", "PersistentVolumeClaim", &claim.metadata);
    let text = "Volume is not bound yet; see its own events".to_owned();
    draft.warn(
        "PersistentVolumeClaimNotBound",
        "CreatePersistentVolumeClaim",
        text,
        Some(related),
    );
}
