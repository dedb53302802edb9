//! Directories that hold no more than their capacity: groups of btrfs' quotas, by its own program.
//!
//! Quotas make snapshots slower, so they are switched on by the first volume that asks for a limit.

use std::path::Path;
use std::process::Command;

use crate::driver::Driver;
use crate::error::Fault;
use crate::records::{Kind, Volume};

/// The parameter of a storage class that asks for a limit; its value is `true`.
pub(crate) const PARAMETER: &str = "limited";

/// Gives a volume that asked for it its limit, or its new one. A disk cannot hold more than its size anyway.
pub(crate) fn apply(driver: &Driver, volume: &Volume) -> Result<(), Fault> {
    if !volume.limited || volume.kind == Kind::Disk {
        return Ok(());
    }
    let place = driver.place(volume);
    btrfs(&["quota", "enable"], &place)?;
    // What was there before is counted first.
    btrfs(&["quota", "rescan", "-w"], &place)?;
    let capacity = volume.capacity.to_string();
    btrfs(&["qgroup", "limit", &capacity], &place)
}

fn btrfs(words: &[&str], place: &Path) -> Result<(), Fault> {
    let done = Command::new("btrfs").args(words).arg(place).output();
    let done = done.map_err(|error| Fault::system("run btrfs for", place, error))?;
    if done.status.success() {
        return Ok(());
    }
    Err(Fault::Precondition(format!(
        "the volume cannot be limited to its capacity, for which its folder has to be on btrfs: {}",
        String::from_utf8_lossy(&done.stderr).trim()
    )))
}
