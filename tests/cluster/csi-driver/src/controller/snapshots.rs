//! Making, deleting and listing snapshots.

use prost_types::Timestamp;
use syncline_volumes::Source;

use super::{paging, volumes};
use crate::driver::{Call, Driver};
use crate::error::Fault;
use crate::faults::{Effects, Subject};
use crate::proto::csi::{
    self, CreateSnapshotRequest, ListSnapshotsRequest, ListSnapshotsResponse,
    list_snapshots_response,
};
use crate::records::{self, Kind, Owner, Snapshot};

fn subject(snapshot: &Snapshot) -> Subject {
    Subject {
        owner: snapshot.owner.clone(),
        id: snapshot.id.clone(),
    }
}

/// A call about a snapshot that may or may not exist.
pub(super) fn about(driver: &Driver, name: &'static str, id: &str) -> Call {
    let known = driver.records.find::<Snapshot>(id).ok().flatten();
    Call {
        name,
        subject: Subject {
            owner: known.map(|snapshot| snapshot.owner).unwrap_or_default(),
            id: id.to_owned(),
        },
        key: format!("snapshot {id}"),
    }
}

/// Whether a volume may be made from it; only faults keep it from that.
pub(super) fn is_ready(driver: &Driver, snapshot: &Snapshot) -> Result<bool, Fault> {
    let effects = driver.faults.effects(&subject(snapshot))?;
    Ok(effects.is_ready(records::now().saturating_sub(snapshot.created)))
}

/// Makes the snapshot, or finds it made.
pub(super) fn create(
    driver: &Driver,
    effects: Effects,
    request: &CreateSnapshotRequest,
    (id, owner): (String, Owner),
) -> Result<Snapshot, Fault> {
    let source = &request.source_volume_id;
    if source.is_empty() {
        return Err(Fault::Invalid("the source volume id is missing".to_owned()));
    }
    if let Some(snapshot) = driver.records.find::<Snapshot>(&id)? {
        if snapshot.volume == *source {
            return Ok(snapshot);
        }
        return Err(Fault::Taken {
            what: "snapshot",
            id,
            difference: format!("it is one of the volume `{}`", snapshot.volume),
        });
    }
    let volume = driver.volume(source)?;
    if effects.refuse.snapshot {
        return Err(Fault::Precondition(
            "snapshots are refused by the faults file".to_owned(),
        ));
    }
    let created = records::now();
    if volume.kind == Kind::Disk {
        volumes::flush(driver, source)?;
    }
    let copied = driver.volumes.snapshot(Source::Volume(source), &id)?;
    let snapshot = Snapshot {
        id,
        volume: source.clone(),
        kind: volume.kind,
        size: volume.capacity,
        created,
        owner,
        consistency: copied.consistency.to_string(),
    };
    driver.records.put(&snapshot)?;
    Ok(snapshot)
}

/// Deletes a snapshot; none of that id is no error.
pub(super) fn delete(driver: &Driver, id: &str) -> Result<(), Fault> {
    if id.is_empty() {
        return Err(Fault::Invalid("the snapshot id is missing".to_owned()));
    }
    if driver.records.find::<Snapshot>(id)?.is_none() {
        return Ok(());
    }
    driver.records.remove::<Snapshot>(id)?;
    Ok(driver.volumes.delete_image(id)?)
}

/// A snapshot as CSI shows it.
pub(super) fn shown(driver: &Driver, snapshot: &Snapshot) -> Result<csi::Snapshot, Fault> {
    Ok(csi::Snapshot {
        size_bytes: i64::try_from(snapshot.size).unwrap_or(i64::MAX),
        snapshot_id: snapshot.id.clone(),
        source_volume_id: snapshot.volume.clone(),
        creation_time: Some(Timestamp {
            seconds: i64::try_from(snapshot.created.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(snapshot.created.subsec_nanos()).unwrap_or(0),
        }),
        ready_to_use: is_ready(driver, snapshot)?,
        group_snapshot_id: String::new(),
    })
}

pub(super) fn list(
    driver: &Driver,
    request: &ListSnapshotsRequest,
) -> Result<ListSnapshotsResponse, Fault> {
    let mut all = driver.records.all::<Snapshot>()?;
    all.retain(|each| {
        (request.snapshot_id.is_empty() || each.id == request.snapshot_id)
            && (request.source_volume_id.is_empty() || each.volume == request.source_volume_id)
    });
    let (page, next_token) =
        paging::page(all, request.max_entries, &request.starting_token, |each| {
            &each.id
        })?;
    let mut entries = Vec::new();
    for snapshot in &page {
        entries.push(list_snapshots_response::Entry {
            snapshot: Some(shown(driver, snapshot)?),
        });
    }
    Ok(ListSnapshotsResponse {
        entries,
        next_token,
    })
}
