//! Making, deleting, listing and growing volumes.

use std::collections::HashMap;

use syncline_volumes::{Copied, Source};

use super::{LARGEST, kind_of, paging};
use crate::driver::{Driver, TOPOLOGY};
use crate::error::Fault;
use crate::faults::Effects;
use crate::proto::csi::volume_content_source::{SnapshotSource, Type, VolumeSource};
use crate::proto::csi::{
    self, CapacityRange, ControllerExpandVolumeRequest, ControllerExpandVolumeResponse,
    CreateVolumeRequest, GetCapacityRequest, GetCapacityResponse, ListVolumesRequest,
    ListVolumesResponse, Topology, TopologyRequirement, VolumeContentSource, list_volumes_response,
};
use crate::records::{Kind, Origin, Owner, Volume};
use crate::{limits, loops, mounts};

/// What a volume has that was asked for without a size: 1 GiB.
const USUAL: u64 = 1 << 30;

/// A volume that somebody wants, as far as it makes sense.
pub(super) struct Wish {
    id: String,
    owner: Owner,
    kind: Kind,
    origin: Option<Origin>,
    /// At least so many bytes.
    required: u64,
    /// At most so many bytes.
    limit: u64,
    /// Whether it is to hold no more than its capacity.
    limited: bool,
}

impl Wish {
    pub(super) fn new(
        driver: &Driver,
        id: String,
        owner: Owner,
        request: &CreateVolumeRequest,
    ) -> Result<Self, Fault> {
        let kind = kind_of(&request.volume_capabilities)?;
        if !request.mutable_parameters.is_empty() {
            return Err(Fault::Invalid(
                "volumes here have no parameters that can change".to_owned(),
            ));
        }
        can_be_here(driver, request.accessibility_requirements.as_ref())?;
        let origin = match &request.volume_content_source {
            None => None,
            Some(source) => Some(origin_of(source)?),
        };
        let (required, limit) = range(request.capacity_range.as_ref())?;
        Ok(Self {
            id,
            owner,
            kind,
            origin,
            required,
            limit,
            limited: request
                .parameters
                .get(limits::PARAMETER)
                .is_some_and(|value| value == "true"),
        })
    }

    /// A volume of that name must be what is wished for, else the name is taken.
    fn matches(&self, volume: Volume) -> Result<Volume, Fault> {
        let difference = if volume.kind != self.kind {
            format!("it is a {:?}", volume.kind)
        } else if volume.origin != self.origin {
            format!("it was made from {:?}", volume.origin)
        } else if !(self.required..=self.limit).contains(&volume.capacity) {
            format!("it has {} bytes", volume.capacity)
        } else {
            return Ok(volume);
        };
        Err(Fault::Taken {
            what: "volume",
            id: volume.id,
            difference,
        })
    }

    /// The capacity of a volume whose source needs so many bytes.
    fn capacity(&self, needed: u64) -> Result<u64, Fault> {
        let usual = if self.required == 0 && needed == 0 {
            USUAL.min(self.limit)
        } else {
            self.required
        };
        // No size asked for: as large as its source.
        let capacity = if self.required == 0 {
            usual.max(needed)
        } else {
            usual
        };
        if capacity < needed {
            return Err(Fault::OutOfRange(format!(
                "{capacity} bytes are less than the {needed} bytes of the source: ask for {needed} bytes or more"
            )));
        }
        if capacity > self.limit {
            return Err(Fault::OutOfRange(format!(
                "the source needs {needed} bytes, which is more than the limit of {}",
                self.limit
            )));
        }
        Ok(capacity)
    }
}

fn origin_of(source: &VolumeContentSource) -> Result<Origin, Fault> {
    match &source.r#type {
        Some(Type::Snapshot(snapshot)) => Ok(Origin::Snapshot(snapshot.snapshot_id.clone())),
        Some(Type::Volume(volume)) => Ok(Origin::Volume(volume.volume_id.clone())),
        None => Err(Fault::Invalid(
            "the content source is neither a snapshot nor a volume".to_owned(),
        )),
    }
}

/// The least and the most bytes that are asked for.
fn range(range: Option<&CapacityRange>) -> Result<(u64, u64), Fault> {
    let range = range.copied().unwrap_or_default();
    let (Ok(required), Ok(limit)) = (
        u64::try_from(range.required_bytes),
        u64::try_from(range.limit_bytes),
    ) else {
        return Err(Fault::Invalid("a size is negative".to_owned()));
    };
    if limit != 0 && limit < required {
        return Err(Fault::Invalid(format!(
            "the limit of {limit} bytes is less than the {required} bytes required"
        )));
    }
    if required > LARGEST {
        return Err(Fault::OutOfRange(format!(
            "{required} bytes are more than a volume may have here: ask for {LARGEST} bytes or less"
        )));
    }
    Ok((required, if limit == 0 { LARGEST } else { limit }))
}

fn segments_fit(driver: &Driver, topology: &Topology) -> bool {
    topology
        .segments
        .get(TOPOLOGY)
        .is_none_or(|node| *node == driver.node)
}

fn can_be_here(driver: &Driver, wanted: Option<&TopologyRequirement>) -> Result<(), Fault> {
    let Some(wanted) = wanted else { return Ok(()) };
    let fits = wanted.requisite.is_empty()
        || wanted
            .requisite
            .iter()
            .any(|each| segments_fit(driver, each));
    if fits {
        return Ok(());
    }
    Err(Fault::NoSpace(format!(
        "volumes can only be on the node {}, which is not among those asked for",
        driver.node
    )))
}

/// Where all volumes are.
pub(crate) fn topology(driver: &Driver) -> Topology {
    Topology {
        segments: HashMap::from([(TOPOLOGY.to_owned(), driver.node.clone())]),
    }
}

/// Makes the volume, or finds it made.
pub(super) fn create(driver: &Driver, effects: Effects, wish: &Wish) -> Result<Volume, Fault> {
    if let Some(volume) = driver.records.find::<Volume>(&wish.id)? {
        return wish.matches(volume);
    }
    refuse(effects, wish)?;
    let capacity = wish.capacity(needed(driver, wish)?)?;
    let copied = fill(driver, wish, capacity)?;
    if wish.kind == Kind::Disk {
        driver.volumes.grow_disk(&wish.id, capacity)?;
    }
    let volume = Volume {
        id: wish.id.clone(),
        kind: wish.kind,
        capacity,
        limited: wish.limited,
        origin: wish.origin.clone(),
        owner: wish.owner.clone(),
        consistency: copied.map(|copied| copied.consistency.to_string()),
    };
    limits::apply(driver, &volume)?;
    driver.records.put(&volume)?;
    Ok(volume)
}

fn refuse(effects: Effects, wish: &Wish) -> Result<(), Fault> {
    let refused = |what: &str| {
        Err(Fault::Precondition(format!(
            "{what} are refused by the faults file"
        )))
    };
    match wish.origin {
        _ if effects.no_space => Err(Fault::NoSpace(
            "no space left for volumes (by the faults file)".to_owned(),
        )),
        Some(Origin::Volume(_)) if effects.refuse.clone => refused("clones of volumes"),
        Some(Origin::Snapshot(_)) if effects.refuse.restore => refused("volumes from snapshots"),
        _ => Ok(()),
    }
}

/// How many bytes the source needs; it must exist and be of the same kind.
fn needed(driver: &Driver, wish: &Wish) -> Result<u64, Fault> {
    let (kind, size) = match &wish.origin {
        None => return Ok(0),
        Some(Origin::Volume(id)) => {
            let volume = driver.volume(id)?;
            (volume.kind, volume.capacity)
        }
        Some(Origin::Snapshot(id)) => {
            let snapshot = driver.snapshot(id)?;
            if !super::snapshots::is_ready(driver, &snapshot)? {
                return Err(Fault::Precondition(format!(
                    "the snapshot `{id}` is not ready to use: come again"
                )));
            }
            (snapshot.kind, snapshot.size)
        }
    };
    if kind != wish.kind {
        return Err(Fault::Invalid(format!(
            "the source is a {kind:?}, the volume asked for is a {:?}: ask for the same mode",
            wish.kind
        )));
    }
    Ok(size)
}

fn fill(driver: &Driver, wish: &Wish, capacity: u64) -> Result<Option<Copied>, Fault> {
    let volumes = &driver.volumes;
    let copied = match (&wish.origin, wish.kind) {
        (Some(Origin::Snapshot(id)), _) => volumes.provision(Source::Image(id), &wish.id)?,
        (Some(Origin::Volume(id)), kind) => {
            if kind == Kind::Disk {
                flush(driver, id)?;
            }
            volumes.provision(Source::Volume(id), &wish.id)?
        }
        (None, Kind::Directory) => {
            volumes.create(&wish.id)?;
            return Ok(None);
        }
        (None, Kind::Disk) => {
            volumes.create_disk(&wish.id, capacity)?;
            return Ok(None);
        }
    };
    Ok(Some(copied))
}

/// Brings to a disk's file what its devices keep in memory.
pub(super) fn flush(driver: &Driver, id: &str) -> Result<(), Fault> {
    for device in loops::of(&driver.volumes.disk_path(id))? {
        if !device.read_only {
            device.flush()?;
        }
    }
    Ok(())
}

/// Deletes a volume that nobody uses; none of that id is no error.
pub(super) fn delete(driver: &Driver, id: &str) -> Result<(), Fault> {
    if id.is_empty() {
        return Err(Fault::Invalid("the volume id is missing".to_owned()));
    }
    let Some(volume) = driver.records.find::<Volume>(id)? else {
        return Ok(());
    };
    let place = driver.place(&volume);
    let used = match volume.kind {
        Kind::Disk => !loops::of(&place)?.is_empty(),
        Kind::Directory => mounts::all()?
            .iter()
            .any(|mount| mounts::same(&mount.point, &place)),
    };
    if used {
        return Err(Fault::Precondition(format!(
            "the volume `{id}` is in use on {}: unpublish and unstage it first",
            driver.node
        )));
    }
    driver.records.remove::<Volume>(id)?;
    Ok(driver.volumes.delete(id)?)
}

/// A volume as CSI shows it.
pub(super) fn shown(driver: &Driver, volume: &Volume) -> csi::Volume {
    let source = volume.origin.clone().map(|origin| match origin {
        Origin::Snapshot(snapshot_id) => Type::Snapshot(SnapshotSource { snapshot_id }),
        Origin::Volume(volume_id) => Type::Volume(VolumeSource { volume_id }),
    });
    let consistency = volume.consistency.iter();
    csi::Volume {
        capacity_bytes: i64::try_from(volume.capacity).unwrap_or(i64::MAX),
        volume_id: volume.id.clone(),
        volume_context: consistency
            .map(|word| ("consistency".to_owned(), word.clone()))
            .collect(),
        content_source: source.map(|source| VolumeContentSource {
            r#type: Some(source),
        }),
        accessible_topology: vec![topology(driver)],
    }
}

pub(super) fn list(
    driver: &Driver,
    request: &ListVolumesRequest,
) -> Result<ListVolumesResponse, Fault> {
    let all = driver.records.all::<Volume>()?;
    let (page, next_token) =
        paging::page(all, request.max_entries, &request.starting_token, |each| {
            &each.id
        })?;
    let entries = page.iter().map(|volume| list_volumes_response::Entry {
        volume: Some(shown(driver, volume)),
        status: None,
    });
    Ok(ListVolumesResponse {
        entries: entries.collect(),
        next_token,
    })
}

pub(super) fn capacity(
    driver: &Driver,
    request: &GetCapacityRequest,
) -> Result<GetCapacityResponse, Fault> {
    let here = request
        .accessible_topology
        .as_ref()
        .is_none_or(|wanted| segments_fit(driver, wanted));
    let free = if here {
        driver.volumes.free_bytes()?
    } else {
        0
    };
    Ok(GetCapacityResponse {
        available_capacity: i64::try_from(free).unwrap_or(i64::MAX),
        maximum_volume_size: Some(i64::try_from(LARGEST).unwrap_or(i64::MAX)),
        minimum_volume_size: Some(0),
    })
}

/// Grows a volume; one that is large enough already is left as it is.
pub(super) fn expand(
    driver: &Driver,
    request: &ControllerExpandVolumeRequest,
) -> Result<ControllerExpandVolumeResponse, Fault> {
    if request.capacity_range.is_none() && !request.volume_id.is_empty() {
        return Err(Fault::Invalid("the capacity range is missing".to_owned()));
    }
    let mut volume = driver.volume(&request.volume_id)?;
    let (required, limit) = range(request.capacity_range.as_ref())?;
    let capacity = volume.capacity.max(required);
    if capacity > limit {
        return Err(Fault::OutOfRange(format!(
            "the volume has {capacity} bytes already, which is more than the limit of {limit}"
        )));
    }
    if capacity > volume.capacity {
        if volume.kind == Kind::Disk {
            driver.volumes.grow_disk(&volume.id, capacity)?;
        }
        volume.capacity = capacity;
        limits::apply(driver, &volume)?;
        driver.records.put(&volume)?;
    }
    Ok(ControllerExpandVolumeResponse {
        capacity_bytes: i64::try_from(capacity).unwrap_or(i64::MAX),
        // Only a block device has to be told.
        node_expansion_required: volume.kind == Kind::Disk,
    })
}
