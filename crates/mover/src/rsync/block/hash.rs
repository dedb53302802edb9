//! Reading and hashing a device on several threads, in order, in bounded memory.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use super::{BlockHash, Device, Geometry, hash_of};

/// More threads than this do not help: the device is the limit then.
const MOST_THREADS: usize = 4;
/// Units that each thread may be ahead.
const AHEAD: usize = 2;

/// Some consecutive blocks.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) first: u64,
    pub(super) data: Vec<u8>,
    pub(super) hashes: Vec<BlockHash>,
}

type Read = std::io::Result<Unit>;

/// All units of a device, in order. Threads end when this is dropped.
pub(super) struct Units {
    threads: Vec<Receiver<Read>>,
    next: u64,
    geometry: Geometry,
}

/// Begins to read a device. `keep` keeps the data of the units along with their hashes.
pub(super) fn units(device: &Arc<Device>, geometry: Geometry, keep: bool) -> Units {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let count = cores.min(MOST_THREADS);
    let start = |number: usize| {
        let (sender, receiver) = sync_channel(AHEAD);
        let device = Arc::clone(device);
        thread::spawn(move || {
            let mine = (number as u64..geometry.units()).step_by(count);
            for unit in mine {
                let read = read(&device, geometry, unit, keep);
                let failed = read.is_err();
                if sender.send(read).is_err() || failed {
                    return;
                }
            }
        });
        receiver
    };
    Units {
        threads: (0..count).map(start).collect(),
        next: 0,
        geometry,
    }
}

impl Iterator for Units {
    type Item = Read;

    fn next(&mut self) -> Option<Read> {
        if self.next >= self.geometry.units() {
            return None;
        }
        let count = self.threads.len() as u64;
        let thread = usize::try_from(self.next.checked_rem(count)?).ok()?;
        self.next += 1;
        let ended = || Err(std::io::Error::other("a reading thread ended"));
        Some(self.threads.get(thread)?.recv().unwrap_or_else(|_| ended()))
    }
}

fn read(device: &Device, geometry: Geometry, unit: u64, keep: bool) -> Read {
    let first = unit * geometry.blocks_in_unit();
    let last = (first + geometry.blocks_in_unit()).min(geometry.blocks());
    let length = (first..last).map(|index| geometry.length(index)).sum();
    let mut data = vec![0; length];
    device.read(&mut data, geometry.offset(first))?;
    let block = usize::try_from(geometry.block).unwrap_or(usize::MAX);
    let hashes = data.chunks(block).map(hash_of).collect();
    if !keep {
        data = Vec::new();
    }
    Ok(Unit {
        first,
        data,
        hashes,
    })
}
