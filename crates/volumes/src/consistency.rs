//! What a copy is worth.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How many paths a sample holds at most.
pub(crate) const SAMPLE: usize = 10;

/// How consistent a copy of a directory is. The order is from worst to best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Consistency {
    /// Files were copied while they could change: a file may mix two of its states.
    None,
    /// Each file is as it was at one moment, but not all files at the same moment.
    PerFile,
    /// The whole tree is as it was at one moment.
    Atomic,
}

impl Consistency {
    /// The word used in annotations: `atomic`, `per-file` or `none`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::PerFile => "per-file",
            Self::Atomic => "atomic",
        }
    }
}

impl fmt::Display for Consistency {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl FromStr for Consistency {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "none" => Ok(Self::None),
            "per-file" => Ok(Self::PerFile),
            "atomic" => Ok(Self::Atomic),
            other => Err(format!(
                "`{other}` is no consistency: use atomic, per-file or none"
            )),
        }
    }
}

/// Whether the source held still while it was copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "settled", rename_all = "camelCase")]
pub enum Settled {
    /// The copy is atomic, or its last pass saw no change.
    Yes,
    /// Even the last pass saw changes.
    No {
        /// How many entries the last pass found changed.
        count: u64,
        /// Some of them, relative to the source, lossily decoded.
        sample: Vec<String>,
    },
}

/// What an ordinary user was not allowed to keep.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unkept {
    /// How many entries are concerned.
    pub count: u64,
    /// Some of them: path relative to the source, and what was lost.
    pub sample: Vec<String>,
}

impl Unkept {
    pub(crate) fn add(&mut self, path: &std::path::Path, what: &str) {
        self.count += 1;
        if self.sample.len() < SAMPLE {
            self.sample.push(format!("{}: {what}", path.display()));
        }
    }
}

/// How much a tree holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Entries of any type, the root itself not counted.
    pub entries: u64,
    /// Sum of the sizes of regular files in bytes, hard links counted once.
    pub bytes: u64,
    /// Bytes allocated on disk as `stat` tells (shared extents counted for each file).
    pub allocated: u64,
}

/// The outcome of a snapshot, clone or restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Copied {
    /// The directory that holds the copy.
    #[serde(skip)]
    pub path: PathBuf,
    /// How consistent the data is. A volume restored from an image is as consistent as the image.
    pub consistency: Consistency,
    /// How often the source was walked; 0 for a subvolume snapshot.
    pub passes: u32,
    /// Whether the source held still.
    pub settled: Settled,
    /// What could not be kept.
    pub unkept: Unkept,
}
