//! One cluster to a data folder: a lock file that names its holder.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

/// Why the data folder cannot be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    #[error(
        "the data folder {folder} is in use by process {pid}; stop that process, or use another folder"
    )]
    Held { folder: PathBuf, pid: String },
    #[error("cannot lock {path}: {source}; see that the folder belongs to this user")]
    File {
        path: PathBuf,
        source: std::io::Error,
    },
}

/// The right to use a data folder. It ends with this value, or with the process.
#[derive(Debug)]
pub(crate) struct DataLock {
    file: File,
}

impl Drop for DataLock {
    /// Closing the file is not enough: a process that another thread is just starting has a copy of it until it executes
    /// its program, and a lock holds as long as any copy is open.
    fn drop(&mut self) {
        if let Err(error) = flock(&self.file, FlockOperation::Unlock) {
            tracing::debug!(%error, "the data folder's lock ends with the process");
        }
    }
}

impl DataLock {
    /// Takes the folder, or says who has it.
    pub(crate) fn take(folder: &Path) -> Result<Self, LockError> {
        let path = folder.join("lock");
        let fault = |source: std::io::Error| LockError::File {
            path: path.clone(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(fault)?;
        if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(fault(error.into()));
            }
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(fault)?;
            return Err(LockError::Held {
                folder: folder.to_owned(),
                pid: pid.trim().to_owned(),
            });
        }
        file.set_len(0).map_err(fault)?;
        file.rewind().map_err(fault)?;
        writeln!(file, "{}", std::process::id()).map_err(fault)?;
        Ok(Self { file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_free_again_although_a_process_that_is_being_started_still_has_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let lock = DataLock::take(folder.path()).unwrap();
        let _inherited = lock.file.try_clone().unwrap();
        assert!(matches!(
            DataLock::take(folder.path()),
            Err(LockError::Held { .. })
        ));
        drop(lock);
        DataLock::take(folder.path()).unwrap();
    }
}
