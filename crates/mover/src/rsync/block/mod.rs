//! Block devices: only blocks that differ travel.
//!
//! Both ends read their device and hash its blocks. The receiver sends its hashes in order, the sender answers each with
//! the block, with the word that it is zero, or with nothing when it is the same. What was written is read back before
//! the receiver says that all is well. A transfer that was cut is simply begun anew: what has arrived is the same by then.
//!
//! Invariant: neither end trusts the other. Each length, index and order is checked before anything is written or
//! allocated, and the receiver writes to nothing but its device, from its start to the end of what the sender has.

mod device;
mod hash;
mod receive;
mod send;
#[cfg(test)]
mod tests;
mod wire;

pub(crate) use device::Device;
pub(crate) use receive::receive;
pub(crate) use send::{SendError, Sent, send};
pub(crate) use wire::Refused;

/// The version of what the two ends say to each other; a peer names it on the command line.
pub(crate) const PROTOCOL: u32 = 1;

/// Smallest block that is spoken of, in bytes.
const SMALLEST_BLOCK: u32 = 4 * 1024;
/// Largest block, in bytes.
const LARGEST_BLOCK: u32 = 1024 * 1024;
/// Bytes that are read and hashed at once.
const UNIT: u32 = 4 * 1024 * 1024;

/// How a device is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// Bytes of the sender's device.
    size: u64,
    /// Bytes of a block; the last one may be shorter.
    block: u32,
}

impl Geometry {
    /// The division for a device of this size: small blocks where that costs little.
    pub(crate) fn of(size: u64) -> Self {
        const GIB: u64 = 1 << 30;
        let block = match size {
            ..=68_719_476_736 => 64 * 1024,
            _ if size <= 1024 * GIB => 256 * 1024,
            _ => LARGEST_BLOCK,
        };
        Self { size, block }
    }

    /// A division that a peer proposes.
    fn proposed(size: u64, block: u32) -> Option<Self> {
        let sound = block.is_power_of_two() && (SMALLEST_BLOCK..=LARGEST_BLOCK).contains(&block);
        // Beyond this an offset is no file offset any more.
        (sound && i64::try_from(size).is_ok()).then_some(Self { size, block })
    }

    /// Bytes of the device.
    pub(crate) fn size(self) -> u64 {
        self.size
    }

    fn blocks(self) -> u64 {
        self.size.div_ceil(u64::from(self.block))
    }

    fn offset(self, index: u64) -> u64 {
        index.saturating_mul(u64::from(self.block))
    }

    /// Bytes of the block; nothing beyond the end.
    fn length(self, index: u64) -> usize {
        let left = self.size.saturating_sub(self.offset(index));
        usize::try_from(left.min(u64::from(self.block))).unwrap_or(0)
    }

    /// Blocks that are read at once.
    fn blocks_in_unit(self) -> u64 {
        u64::from((UNIT / self.block).max(1))
    }

    fn units(self) -> u64 {
        self.blocks().div_ceil(self.blocks_in_unit())
    }
}

/// The hash of one block.
type BlockHash = [u8; 32];

/// The digest of a whole device: of its blocks' hashes in order.
#[derive(Clone, Debug, Default)]
struct Digest(blake3::Hasher);

impl Digest {
    fn add(&mut self, hash: &BlockHash) {
        self.0.update(hash);
    }

    fn end(&self) -> BlockHash {
        *self.0.finalize().as_bytes()
    }
}

fn hash_of(block: &[u8]) -> BlockHash {
    *blake3::hash(block).as_bytes()
}

/// Whether a device has nothing but zeros. It is read no further than to the first byte that is none.
pub(crate) fn is_all_zero(device: &Device) -> std::io::Result<bool> {
    let geometry = Geometry {
        size: device.size(),
        block: LARGEST_BLOCK,
    };
    let mut buffer = vec![0; geometry.length(0)];
    for index in 0..geometry.blocks() {
        let block = buffer.get_mut(..geometry.length(index)).unwrap_or_default();
        device.read(block, geometry.offset(index))?;
        if !is_zero(block) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a block has nothing but zeros.
fn is_zero(block: &[u8]) -> bool {
    let (words, rest) = block.as_chunks::<16>();
    words.iter().all(|word| *word == [0; 16]) && rest.iter().all(|byte| *byte == 0)
}
