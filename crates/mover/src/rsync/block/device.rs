//! A block device, or a file in its place.

use std::fs::File;
use std::io::{Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, FileTypeExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, FallocateFlags};

/// Zeros are written in pieces of so many bytes where the device cannot do it by itself.
const ZEROS: usize = 1024 * 1024;

/// Why a device cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeviceError {
    #[error("{path} cannot be opened: {source}")]
    Open {
        path: String,
        source: std::io::Error,
    },
    #[error(
        "{path} may not be opened by the mover's user: leave moverSecurityContext out (the mover is root then), or let the \
         cluster's container runtime give devices to a pod's user (containerd: device_ownership_from_security_context)"
    )]
    Forbidden { path: String },
    #[error("{path} is neither a block device nor a file")]
    NoDevice { path: String },
}

impl DeviceError {
    fn open(path: &Path, source: std::io::Error) -> Self {
        let path = path.display().to_string();
        if source.kind() == std::io::ErrorKind::PermissionDenied {
            return Self::Forbidden { path };
        }
        Self::Open { path, source }
    }
}

/// An open device.
#[derive(Debug)]
pub(crate) struct Device {
    file: File,
    path: PathBuf,
    size: u64,
}

impl Device {
    /// Opens a source's device.
    pub(crate) fn open(path: &Path) -> Result<Self, DeviceError> {
        Self::open_with(path, false)
    }

    /// Opens a destination's device.
    pub(crate) fn open_to_write(path: &Path) -> Result<Self, DeviceError> {
        Self::open_with(path, true)
    }

    fn open_with(path: &Path, write: bool) -> Result<Self, DeviceError> {
        let failed = |source| DeviceError::open(path, source);
        let mut file = File::options()
            .read(true)
            .write(write)
            .open(path)
            .map_err(failed)?;
        let kind = file.metadata().map_err(failed)?.file_type();
        if !kind.is_block_device() && !kind.is_file() {
            return Err(DeviceError::NoDevice {
                path: path.display().to_string(),
            });
        }
        // The metadata of a device knows no size.
        let size = file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok(Self {
            file,
            path: path.to_owned(),
            size,
        })
    }

    /// Bytes that it holds.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    pub(super) fn write(&self, bytes: &[u8], offset: u64) -> std::io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    /// Makes a range zero: as a hole where that is possible, so that no room is taken.
    pub(super) fn zero(&self, offset: u64, length: u64) -> std::io::Result<()> {
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if rustix::fs::fallocate(&self.file, hole, offset, length).is_ok() {
            return Ok(());
        }
        let zeros = vec![0; usize::try_from(length).unwrap_or(ZEROS).min(ZEROS)];
        let mut done = 0;
        while done < length {
            let piece = usize::try_from(length - done).map_or(ZEROS, |left| left.min(ZEROS));
            let bytes = zeros.get(..piece).unwrap_or(&zeros);
            self.write(bytes, offset + done)?;
            done += bytes.len() as u64;
        }
        Ok(())
    }

    /// Brings everything to disk, and forgets it in memory so that the next read comes from there.
    pub(super) fn settle(&self) -> std::io::Result<()> {
        self.file.sync_all()?;
        // Advice only: where it is not taken, what is read back comes from memory.
        let _ = rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_the_mover_may_not_open_is_told_with_the_cure() {
        let refused = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let words = DeviceError::open(Path::new("/dev/block"), refused).to_string();
        for part in [
            "/dev/block",
            "moverSecurityContext",
            "device_ownership_from_security_context",
        ] {
            assert!(words.contains(part), "{words}");
        }
        let gone = std::io::Error::from(std::io::ErrorKind::NotFound);
        let words = DeviceError::open(Path::new("/dev/block"), gone).to_string();
        assert!(words.contains("cannot be opened"), "{words}");
    }
}
