//! The manifest: what a source's tree held in its last complete run, with everything that objects cannot carry.
//!
//! It is zstd of JSON lines: a header, then one [`Entry`] a line, sorted by the bytes of the paths. The source reads its own
//! from the store to see what changed, a destination to restore what rclone lost.
//!
//! Invariant: [`read`] hands out nothing that leads outside a volume, whoever wrote the manifest, and its memory is bounded
//! by the number of entries.

use std::io::{self, BufRead, BufReader, Read, Write};

use serde::{Deserialize, Serialize};

mod limit;

use limit::Limit;

use crate::tree::{Attribute, Entry, Kind, PathFault, check_path, shown, split};

/// The version of manifests that this program writes and reads.
const VERSION: u32 = 1;
/// zstd's own default: twice as small costs four times the work.
const LEVEL: i32 = 3;
/// Most memory that reading lets zstd use, as a power of two of bytes. Writing at [`LEVEL`] takes 21.
const LARGEST_WINDOW: u32 = 23;
/// Longest line, in bytes: more than all attributes of an entry are together on common file systems.
const LONGEST_LINE: u64 = 16 << 20;
/// Largest manifest when decompressed, in bytes: some hundred million entries.
const LARGEST: u64 = 1 << 34;
/// Largest manifest as it is stored, in bytes: temporary files are memory.
pub(crate) const LARGEST_STORED: u64 = 1 << 30;
/// Most of the entries announced that memory is set aside for before they are there.
const RESERVED: u64 = 1 << 16;
/// Largest of an entry's attribute names and values, in bytes (`XATTR_NAME_MAX`, `XATTR_SIZE_MAX`).
const LONGEST_ATTRIBUTE: (usize, usize) = (255, 64 * 1024);

/// The resource whose source wrote a manifest or a marker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Source {
    /// Its `metadata.uid`.
    pub(crate) uid: String,
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// What tells its cluster from others; empty where nobody knew.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) cluster: String,
}

/// What a source's tree held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// The number of the complete upload that it describes.
    pub(crate) generation: u64,
    /// Who wrote it.
    pub(crate) source: Source,
    /// Everything in the tree, sorted by path; the first is the root.
    pub(crate) entries: Vec<Entry>,
}

/// By what a manifest's bytes are known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seal {
    /// Bytes, compressed as they are stored.
    pub(crate) size: u64,
    /// Their BLAKE3 hash in hexadecimal digits.
    pub(crate) blake3: String,
}

/// Why a manifest cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error(
        "the manifest cannot be written: {0}; it takes room in the mover's /tmp, which is memory"
    )]
    Write(io::Error),
    #[error("the manifest cannot be read: {0}")]
    Read(io::Error),
    #[error(
        "the manifest in the store is not the one that generation.json names ({found} bytes, hash {hash}); it was damaged \
         or exchanged"
    )]
    OtherSeal { found: u64, hash: String },
    #[error("line {line} of the manifest is none of a manifest's: {source}")]
    Line {
        line: u64,
        source: serde_json::Error,
    },
    #[error(
        "the manifest has version {found}, this mover reads version {VERSION}; give both ends the same release"
    )]
    OtherVersion { found: u32 },
    #[error(
        "line {line} of the manifest is longer than {LONGEST_LINE} bytes: the extended attributes of one entry are too large"
    )]
    LongLine { line: u64 },
    #[error(
        "the manifest is larger than the mover's memory, or than any that a source writes; raise its memory limit, or look who \
         meddled with the store"
    )]
    TooLarge,
    #[error(
        "the manifest has {found} entries and announces {announced}; it was cut off or added to"
    )]
    OtherCount { announced: u64, found: u64 },
    #[error(
        "the manifest announces {announced} entries, and the mover's memory holds {most} at most; raise its memory limit"
    )]
    TooMany { announced: u64, most: u64 },
    #[error("the manifest does not begin with the volume's root")]
    NoRoot,
    #[error("the manifest names {path}, which cannot lie in a volume: {fault}")]
    Path { path: String, fault: PathFault },
    #[error("the manifest names {path} out of order or twice")]
    Order { path: String },
    #[error("the manifest names {path}, and no folder that it lies in")]
    NoFolder { path: String },
    #[error("the manifest says of {path} what no file system can: {what}")]
    Impossible { path: String, what: &'static str },
}

/// The first line.
#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    generation: u64,
    source: Source,
    entries: u64,
}

/// Writes a manifest and says by what it is known.
pub(crate) fn write(manifest: &Manifest, to: impl Write) -> Result<Seal, ManifestError> {
    let mut sealing = Sealing::new(to);
    let mut encoder =
        zstd::stream::write::Encoder::new(&mut sealing, LEVEL).map_err(ManifestError::Write)?;
    encoder
        .include_checksum(true)
        .map_err(ManifestError::Write)?;
    let header = Header {
        version: VERSION,
        generation: manifest.generation,
        source: manifest.source.clone(),
        entries: manifest.entries.len() as u64,
    };
    let mut line = Vec::new();
    write_line(&header, &mut line, &mut encoder)?;
    for (number, entry) in (2..).zip(&manifest.entries) {
        write_line(entry, &mut line, &mut encoder)?;
        if line.len() as u64 >= LONGEST_LINE {
            return Err(ManifestError::LongLine { line: number });
        }
    }
    encoder.finish().map_err(ManifestError::Write)?;
    sealing.to.flush().map_err(ManifestError::Write)?;
    Ok(sealing.seal())
}

fn write_line(
    value: &impl Serialize,
    line: &mut Vec<u8>,
    to: &mut impl Write,
) -> Result<(), ManifestError> {
    line.clear();
    serde_json::to_writer(&mut *line, value).map_err(|error| ManifestError::Write(error.into()))?;
    line.push(b'\n');
    to.write_all(line).map_err(ManifestError::Write)
}

/// Reads the manifest that `seal` names, and checks all that somebody else could have put into it.
pub(crate) fn read(from: impl Read, seal: &Seal) -> Result<Manifest, ManifestError> {
    read_within(from, seal, Limit::of_this_pod())
}

fn read_within(from: impl Read, seal: &Seal, limit: Limit) -> Result<Manifest, ManifestError> {
    // One byte more than the seal allows shows that there is more.
    let mut sealing = Sealing::new(from.take(seal.size.saturating_add(1)));
    let manifest = decode(&mut sealing, limit);
    // What follows belongs to the file, and a wrong file explains everything else that is wrong.
    io::copy(&mut sealing, &mut io::sink()).map_err(ManifestError::Read)?;
    let found = sealing.seal();
    if found != *seal {
        return Err(ManifestError::OtherSeal {
            found: found.size,
            hash: found.blake3,
        });
    }
    manifest
}

fn decode(from: impl Read, limit: Limit) -> Result<Manifest, ManifestError> {
    let mut decoder = zstd::stream::read::Decoder::new(from).map_err(ManifestError::Read)?;
    decoder
        .window_log_max(LARGEST_WINDOW)
        .map_err(ManifestError::Read)?;
    let mut lines = Lines::new(BufReader::with_capacity(1 << 16, decoder.take(limit.bytes)));
    let header: Header = lines.next()?.ok_or(ManifestError::NoRoot)?;
    if header.version != VERSION {
        return Err(ManifestError::OtherVersion {
            found: header.version,
        });
    }
    if header.entries > limit.entries {
        return Err(ManifestError::TooMany {
            announced: header.entries,
            most: limit.entries,
        });
    }
    let reserved = usize::try_from(header.entries.min(RESERVED)).unwrap_or_default();
    let mut entries: Vec<Entry> = Vec::with_capacity(reserved);
    let mut folder = 0;
    while let Some(entry) = lines.next::<Entry>()? {
        check(&entry)?;
        check_place(&entry, &entries, &mut folder)?;
        entries.push(entry);
        if entries.len() as u64 > header.entries {
            break;
        }
    }
    if lines.from.into_inner().limit() == 0 {
        return Err(ManifestError::TooLarge);
    }
    let found = entries.len() as u64;
    if found != header.entries {
        return Err(ManifestError::OtherCount {
            announced: header.entries,
            found,
        });
    }
    if found == 0 {
        return Err(ManifestError::NoRoot);
    }
    Ok(Manifest {
        generation: header.generation,
        source: header.source,
        entries,
    })
}

/// Checks that an entry follows those before it and lies in a folder that is among them. `folder` is where the last
/// entry's folder is: most entries share it.
fn check_place(entry: &Entry, before: &[Entry], folder: &mut usize) -> Result<(), ManifestError> {
    let Some(last) = before.last() else {
        if entry.is_root() && entry.is_folder() {
            return Ok(());
        }
        return Err(ManifestError::NoRoot);
    };
    if entry.path <= last.path {
        return Err(ManifestError::Order {
            path: shown(&entry.path),
        });
    }
    let (parent, _) = split(&entry.path);
    let is_parent = |at: usize| {
        before
            .get(at)
            .is_some_and(|known| known.is_folder() && known.path == parent)
    };
    if !is_parent(*folder) {
        *folder = crate::tree::position(before, parent).unwrap_or(usize::MAX);
    }
    if is_parent(*folder) {
        return Ok(());
    }
    Err(ManifestError::NoFolder {
        path: shown(&entry.path),
    })
}

/// Checks what an entry says of itself.
fn check(entry: &Entry) -> Result<(), ManifestError> {
    check_path(&entry.path).map_err(|fault| ManifestError::Path {
        path: shown(&entry.path),
        fault,
    })?;
    let is_bad_target = matches!(
        &entry.kind,
        Kind::Link { target } if target.is_empty() || target.len() > 4095 || target.contains(&0)
    );
    let is_bad_attribute = |(name, value): &Attribute| {
        let (longest_name, longest_value) = LONGEST_ATTRIBUTE;
        name.is_empty()
            || name.contains(&0)
            || name.len() > longest_name
            || value.len() > longest_value
    };
    let what = if entry.mode > 0o7777 {
        "its mode"
    } else if entry.mtime.nanos >= 1_000_000_000 || entry.ctime.nanos >= 1_000_000_000 {
        "its time"
    } else if entry.uid == u32::MAX || entry.gid == u32::MAX {
        "its owner"
    } else if is_bad_target {
        "where it points"
    } else if entry.size > 0 && !entry.is_file() || i64::try_from(entry.size).is_err() {
        "its size"
    } else if entry.xattrs.iter().any(is_bad_attribute) {
        "its attributes"
    } else {
        return Ok(());
    };
    Err(ManifestError::Impossible {
        path: shown(&entry.path),
        what,
    })
}

/// Lines of JSON of a bounded length.
struct Lines<R> {
    from: R,
    line: Vec<u8>,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    fn new(from: R) -> Self {
        Self {
            from,
            line: Vec::new(),
            number: 0,
        }
    }

    fn next<T: for<'de> Deserialize<'de>>(&mut self) -> Result<Option<T>, ManifestError> {
        self.line.clear();
        self.number += 1;
        let length = (&mut self.from)
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut self.line)
            .map_err(ManifestError::Read)?;
        if length == 0 {
            return Ok(None);
        }
        if length as u64 == LONGEST_LINE && !self.line.ends_with(b"\n") {
            return Err(ManifestError::LongLine { line: self.number });
        }
        serde_json::from_slice(&self.line)
            .map(Some)
            .map_err(|source| ManifestError::Line {
                line: self.number,
                source,
            })
    }
}

/// Passes bytes on and remembers by what they are known.
struct Sealing<T> {
    to: T,
    hasher: blake3::Hasher,
    size: u64,
}

impl<T> Sealing<T> {
    fn new(to: T) -> Self {
        Self {
            to,
            hasher: blake3::Hasher::new(),
            size: 0,
        }
    }

    fn pass(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
    }

    fn seal(&self) -> Seal {
        Seal {
            size: self.size,
            blake3: self.hasher.finalize().to_hex().to_string(),
        }
    }
}

impl<W: Write> Write for Sealing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.pass(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

impl<R: Read> Read for Sealing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.to.read(buffer)?;
        self.pass(buffer.get(..length).unwrap_or_default());
        Ok(length)
    }
}

#[cfg(test)]
mod tests;
