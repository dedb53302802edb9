//! How full volumes are.

use std::path::Path;

use syncline_volumes::Source;

use crate::driver::Driver;
use crate::error::Fault;
use crate::proto::csi::volume_usage::Unit;
use crate::proto::csi::{NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse, VolumeUsage};
use crate::records::{Kind, Volume};
use crate::{loops, mounts};

/// Tells what is in a volume that is mounted at the path that the request names.
pub(super) fn tell(
    driver: &Driver,
    request: &NodeGetVolumeStatsRequest,
) -> Result<NodeGetVolumeStatsResponse, Fault> {
    if request.volume_id.is_empty() || request.volume_path.is_empty() {
        return Err(Fault::Invalid(
            "the volume id or the volume path is missing".to_owned(),
        ));
    }
    let volume = driver.volume(&request.volume_id)?;
    if !is_at(driver, &volume, Path::new(&request.volume_path))? {
        return Err(Fault::missing("volume at the path", &request.volume_path));
    }
    let usage = driver.volumes.usage(Source::Volume(&volume.id))?;
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let bytes = VolumeUsage {
        // The capacity is a promise that only disks keep, so that more can be in a volume than fits.
        available: number(volume.capacity.saturating_sub(usage.allocated)),
        total: number(volume.capacity),
        used: number(usage.allocated),
        unit: Unit::Bytes.into(),
    };
    let entries = VolumeUsage {
        used: number(usage.entries),
        unit: Unit::Inodes.into(),
        ..VolumeUsage::default()
    };
    Ok(NodeGetVolumeStatsResponse {
        usage: match volume.kind {
            Kind::Directory => vec![bytes, entries],
            Kind::Disk => vec![bytes],
        },
        volume_condition: None,
    })
}

fn is_at(driver: &Driver, volume: &Volume, path: &Path) -> Result<bool, Fault> {
    let place = driver.place(volume);
    Ok(match volume.kind {
        Kind::Directory => mounts::same(path, &place),
        Kind::Disk => loops::of(&place)?
            .iter()
            .any(|device| mounts::same(path, &device.path)),
    })
}
