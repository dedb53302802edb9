//! What the two ends say to each other: frames of a kind, a length and that many bytes, numbers in little endian.
//!
//! ```text
//! sender:    hello(size, block)   data(index, bytes) | zero(first, count) | done(upto) …   end(digest)
//! receiver:  hello(size)          hashes(…) …                                              verdict(digest, written)
//! ```
//!
//! The receiver may say `refused` instead of anything else.

use std::io::{self, Read, Write};

use super::{BlockHash, LARGEST_BLOCK, UNIT};

/// What either end says first.
const MAGIC: [u8; 8] = *b"SYNCBLK1";
/// Longest explanation of a refusal, in bytes.
const LONGEST_TEXT: u32 = 2048;
/// Most hashes in a frame: a unit of the smallest blocks.
const MOST_HASHES: u32 = UNIT / super::SMALLEST_BLOCK;

/// What a sender says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FromSender {
    Hello {
        size: u64,
        block: u32,
    },
    /// A block that differs.
    Data {
        index: u64,
        bytes: Vec<u8>,
    },
    /// Blocks that are zero, and were not.
    Zero {
        first: u64,
        count: u64,
    },
    /// All blocks before this one are dealt with.
    Done {
        upto: u64,
    },
    End {
        digest: BlockHash,
    },
}

/// What a receiver says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FromReceiver {
    Hello {
        size: u64,
    },
    /// The hashes of the next blocks.
    Hashes(Vec<BlockHash>),
    Verdict {
        digest: BlockHash,
        written: u64,
    },
    Refused(Refused),
}

/// Why a receiver does not go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// The device is smaller than the sender's.
    #[error("{0}")]
    TooSmall(String),
    /// The device cannot be read or written.
    #[error("{0}")]
    Device(String),
    /// No room is left beneath the device.
    #[error("{0}")]
    Full(String),
    /// What is on the device is not what was sent.
    #[error("{0}")]
    Mismatch(String),
    /// The sender does not keep to the protocol.
    #[error("{0}")]
    Protocol(String),
}

impl Refused {
    fn kind(&self) -> u8 {
        match self {
            Self::TooSmall(_) => 1,
            Self::Device(_) => 2,
            Self::Full(_) => 3,
            Self::Mismatch(_) => 4,
            Self::Protocol(_) => 5,
        }
    }

    fn read(kind: u8, text: &[u8]) -> Option<Self> {
        let text = crate::console::printable(text);
        Some(match kind {
            1 => Self::TooSmall(text),
            2 => Self::Device(text),
            3 => Self::Full(text),
            4 => Self::Mismatch(text),
            5 => Self::Protocol(text),
            _ => return None,
        })
    }
}

impl FromSender {
    pub(super) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Hello { size, block } => frame(
                to,
                b'S',
                &[&MAGIC, &size.to_le_bytes(), &block.to_le_bytes()],
            ),
            Self::Data { index, bytes } => frame(to, b'D', &[&index.to_le_bytes(), bytes]),
            Self::Zero { first, count } => {
                frame(to, b'Z', &[&first.to_le_bytes(), &count.to_le_bytes()])
            }
            Self::Done { upto } => frame(to, b'M', &[&upto.to_le_bytes()]),
            Self::End { digest } => frame(to, b'E', &[digest]),
        }
    }

    pub(super) fn read(from: &mut impl Read) -> io::Result<Self> {
        let (kind, payload) = payload(from, |kind| match kind {
            b'S' => Some(20..=20),
            b'D' => Some(9..=8 + LARGEST_BLOCK),
            b'Z' => Some(16..=16),
            b'M' => Some(8..=8),
            b'E' => Some(32..=32),
            _ => None,
        })?;
        let mut fields = Fields(&payload);
        Ok(match kind {
            b'S' => {
                fields.magic()?;
                Self::Hello {
                    size: fields.long()?,
                    block: u32::from_le_bytes(fields.take()?),
                }
            }
            b'D' => Self::Data {
                index: fields.long()?,
                bytes: fields.0.to_vec(),
            },
            b'Z' => Self::Zero {
                first: fields.long()?,
                count: fields.long()?,
            },
            b'M' => Self::Done {
                upto: fields.long()?,
            },
            _ => Self::End {
                digest: fields.take()?,
            },
        })
    }
}

impl FromReceiver {
    pub(super) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Hello { size } => frame(to, b'R', &[&MAGIC, &size.to_le_bytes()]),
            Self::Hashes(hashes) => frame(to, b'H', &[hashes.as_flattened()]),
            Self::Verdict { digest, written } => frame(to, b'V', &[digest, &written.to_le_bytes()]),
            Self::Refused(refused) => {
                let text = refused.to_string();
                let text = syncline_api::report::head(&text, LONGEST_TEXT as usize);
                frame(to, b'X', &[&[refused.kind()], text.as_bytes()])
            }
        }
    }

    pub(super) fn read(from: &mut impl Read) -> io::Result<Self> {
        let (kind, payload) = payload(from, |kind| match kind {
            b'R' => Some(16..=16),
            b'H' => Some(32..=32 * MOST_HASHES),
            b'V' => Some(40..=40),
            b'X' => Some(1..=1 + LONGEST_TEXT),
            _ => None,
        })?;
        let mut fields = Fields(&payload);
        Ok(match kind {
            b'R' => {
                fields.magic()?;
                Self::Hello {
                    size: fields.long()?,
                }
            }
            b'H' => match fields.0.as_chunks::<32>() {
                (hashes, []) => Self::Hashes(hashes.to_vec()),
                _ => return Err(nonsense()),
            },
            b'V' => Self::Verdict {
                digest: fields.take()?,
                written: fields.long()?,
            },
            _ => {
                let [kind] = fields.take()?;
                Self::Refused(Refused::read(kind, fields.0).ok_or_else(nonsense)?)
            }
        })
    }
}

/// What cannot be understood.
pub(super) fn nonsense() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the other end does not keep to the protocol",
    )
}

fn frame(to: &mut impl Write, kind: u8, parts: &[&[u8]]) -> io::Result<()> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let length = u32::try_from(length).map_err(|_| nonsense())?;
    to.write_all(&[kind])?;
    to.write_all(&length.to_le_bytes())?;
    parts.iter().try_for_each(|part| to.write_all(part))
}

/// Reads a frame. Nothing is allocated before its length is known to be one that its kind may have.
fn payload(
    from: &mut impl Read,
    lengths: impl Fn(u8) -> Option<std::ops::RangeInclusive<u32>>,
) -> io::Result<(u8, Vec<u8>)> {
    let (mut kind, mut length) = ([0; 1], [0; 4]);
    from.read_exact(&mut kind)?;
    from.read_exact(&mut length)?;
    let ([kind], length) = (kind, u32::from_le_bytes(length));
    if !lengths(kind).is_some_and(|admitted| admitted.contains(&length)) {
        return Err(nonsense());
    }
    let mut payload = vec![0; usize::try_from(length).map_err(|_| nonsense())?];
    from.read_exact(&mut payload)?;
    Ok((kind, payload))
}

/// The fields of a payload, from its start.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>().ok_or_else(nonsense)?;
        self.0 = rest;
        Ok(*field)
    }

    fn long(&mut self) -> io::Result<u64> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    fn magic(&mut self) -> io::Result<()> {
        if self.take()? == MAGIC {
            Ok(())
        } else {
            Err(nonsense())
        }
    }
}
