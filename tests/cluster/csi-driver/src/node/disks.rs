//! Disks, with loop devices on top.

use std::path::PathBuf;

use crate::driver::Driver;
use crate::error::Fault;
use crate::loops;
use crate::records::Volume;

/// The device on top of a disk, made where there is none.
pub(super) fn device(driver: &Driver, volume: &Volume, read_only: bool) -> Result<PathBuf, Fault> {
    loops::attach(&driver.place(volume), read_only, &driver.label)
}

/// Takes all devices off a disk; a volume that is none, or is gone, is no error.
pub(super) fn release(driver: &Driver, id: &str) -> Result<(), Fault> {
    if driver.records.find::<Volume>(id)?.is_none() {
        return Ok(());
    }
    for device in loops::of(&driver.volumes.disk_path(id))? {
        if !device.read_only {
            device.flush()?;
        }
        device.detach()?;
    }
    Ok(())
}

/// Makes the devices as large as the disk is to be.
pub(super) fn grow(driver: &Driver, volume: &Volume) -> Result<(), Fault> {
    driver.volumes.grow_disk(&volume.id, volume.capacity)?;
    for device in loops::of(&driver.place(volume))? {
        device.grow()?;
    }
    Ok(())
}
