//! Directories, bind-mounted.

use std::path::{Path, PathBuf};

use crate::driver::Driver;
use crate::error::Fault;
use crate::mounts;
use crate::records::Volume;

/// Mounts a volume at its staging path; one that is mounted there is left.
pub(super) fn stage(driver: &Driver, volume: &Volume, staging: &Path) -> Result<(), Fault> {
    let place = driver.place(volume);
    mounts::make_directory(staging)?;
    if mounts::at(staging)?.is_some() {
        if mounts::same(staging, &place) {
            return Ok(());
        }
        return Err(Fault::Taken {
            what: "mount",
            id: staging.display().to_string(),
            difference: "it is another volume".to_owned(),
        });
    }
    mounts::bind(&place, staging, false)
}

/// The staging path, where the volume must be mounted.
pub(super) fn staged(driver: &Driver, volume: &Volume, staging: &Path) -> Result<PathBuf, Fault> {
    if mounts::at(staging)?.is_some() && mounts::same(staging, &driver.place(volume)) {
        return Ok(staging.to_owned());
    }
    Err(Fault::Precondition(format!(
        "the volume `{}` is not staged at {}: stage it first",
        volume.id,
        staging.display()
    )))
}
