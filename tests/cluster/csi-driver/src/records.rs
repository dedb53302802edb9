//! What CSI has to know of a volume or snapshot and its files do not tell: one small JSON file for each.
//!
//! A volume exists for CSI from the moment its record is in place, which is after its data is; it ends with its record,
//! before its data goes. What lies there without a record was never told to anybody.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Fault;

/// How a volume is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Kind {
    /// A directory, mounted.
    Directory,
    /// A sparse file, a block device on top of it.
    Disk,
}

/// What a volume was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Origin {
    Snapshot(String),
    Volume(String),
}

/// Whose it is, as the sidecars tell in parameters (`--extra-create-metadata`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Owner {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Volume {
    pub(crate) id: String,
    pub(crate) kind: Kind,
    /// In bytes.
    pub(crate) capacity: u64,
    /// Whether a directory holds no more than its capacity; a disk never does.
    #[serde(default)]
    pub(crate) limited: bool,
    pub(crate) origin: Option<Origin>,
    pub(crate) owner: Owner,
    /// How consistent the data was that it started with: `atomic`, `per-file` or `none`; absent for an empty volume.
    pub(crate) consistency: Option<String>,
}

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Snapshot {
    pub(crate) id: String,
    pub(crate) volume: String,
    pub(crate) kind: Kind,
    /// The capacity in bytes that a volume made from it needs.
    pub(crate) size: u64,
    /// Since 1970.
    pub(crate) created: Duration,
    pub(crate) owner: Owner,
    /// How consistent the data is: `atomic`, `per-file` or `none`.
    pub(crate) consistency: String,
}

/// A record with an id.
pub(crate) trait Record: Serialize + DeserializeOwned {
    /// The folder's name.
    const SHELF: &'static str;
    fn id(&self) -> &str;
}

impl Record for Volume {
    const SHELF: &'static str = "volumes";
    fn id(&self) -> &str {
        &self.id
    }
}

impl Record for Snapshot {
    const SHELF: &'static str = "snapshots";
    fn id(&self) -> &str {
        &self.id
    }
}

/// All records.
pub(crate) struct Records {
    root: PathBuf,
}

impl Records {
    pub(crate) fn open(root: &Path) -> Result<Self, Fault> {
        for shelf in [Volume::SHELF, Snapshot::SHELF] {
            let path = root.join(shelf);
            fs::create_dir_all(&path).map_err(|error| Fault::system("create", &path, error))?;
        }
        Ok(Self {
            root: root.to_owned(),
        })
    }

    fn path<T: Record>(&self, id: &str) -> PathBuf {
        self.root.join(T::SHELF).join(format!("{id}.json"))
    }

    /// The record of that id, if there is one; any text may be asked for.
    pub(crate) fn find<T: Record>(&self, id: &str) -> Result<Option<T>, Fault> {
        // What is no name of ours is the name of nothing, and names no other file either.
        if !is_id(id) {
            return Ok(None);
        }
        let path = self.path::<T>(id);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|source| Fault::Record { path, source }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Fault::system("read", &path, error)),
        }
    }

    /// Puts a record in place as a whole.
    pub(crate) fn put<T: Record>(&self, record: &T) -> Result<(), Fault> {
        let path = self.path::<T>(record.id());
        let text = serde_json::to_vec_pretty(record).map_err(|source| Fault::Record {
            path: path.clone(),
            source,
        })?;
        let work = path.with_file_name(format!(".{}.tmp", record.id()));
        File::create(&work)
            .and_then(|mut file| file.write_all(&text))
            .and_then(|()| fs::rename(&work, &path))
            .map_err(|error| Fault::system("write", &path, error))
    }

    /// Removes a record; none of that id is no error.
    pub(crate) fn remove<T: Record>(&self, id: &str) -> Result<(), Fault> {
        let path = self.path::<T>(id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Fault::system("remove", &path, error))
            }
            _ => Ok(()),
        }
    }

    /// All records, in the order of their ids.
    pub(crate) fn all<T: Record>(&self) -> Result<Vec<T>, Fault> {
        let shelf = self.root.join(T::SHELF);
        let entries = fs::read_dir(&shelf).map_err(|error| Fault::system("list", &shelf, error))?;
        let mut ids: Vec<String> = entries
            .filter_map(Result::ok)
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter_map(|name| name.strip_suffix(".json").map(str::to_owned))
            .collect();
        ids.sort_unstable();
        let mut records = Vec::new();
        for id in ids {
            // One may go meanwhile.
            records.extend(self.find(&id)?);
        }
        Ok(records)
    }
}

/// The id of what is called `name`: the name itself where it can name a file, else with all other bytes as `_` and two
/// hexadecimal digits. `None` when that would be too long.
pub(crate) fn id_of(name: &str) -> Option<String> {
    use std::fmt::Write as _;
    let mut id = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || (byte == b'.' && !id.is_empty()) {
            id.push(char::from(byte));
        } else {
            let _ = write!(id, "_{byte:02x}");
        }
    }
    (!id.is_empty() && id.len() <= 200).then_some(id)
}

/// Whether [`id_of`] may have made it, so that it can name a file.
fn is_id(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    (1..=200).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(fits)
}

/// Time since 1970.
pub(crate) fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
