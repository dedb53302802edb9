//! The receiving end.

use std::collections::VecDeque;
use std::io::{self, BufReader, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::hash::units;
use super::wire::{FromReceiver, FromSender, nonsense};
use super::{BlockHash, Device, Digest, Geometry, Refused, hash_of};

/// Why nothing, or not everything, was received.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    /// The sender has been told.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The sender is gone, or speaks something else.
    #[error("the connection to the source broke: {0}")]
    Connection(#[from] io::Error),
}

/// What was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// Bytes of the sender's device.
    pub(crate) size: u64,
    /// Bytes of the device that lie beyond and were left as they are.
    pub(crate) rest: u64,
    /// Bytes that were written, zeros among them.
    pub(crate) written: u64,
}

/// Makes the start of `device` what the sender has, and says so only when it reads back as such from the disk.
pub(crate) fn receive(
    device: Device,
    input: impl Read,
    output: impl Write + Send + 'static,
) -> Result<Received, ReceiveError> {
    let mut input = BufReader::with_capacity(256 * 1024, input);
    let output = Arc::new(Mutex::new(output));
    let outcome = exchange(&Arc::new(device), &mut input, &output);
    if let Err(ReceiveError::Refused(refused)) = &outcome {
        // A sender that is gone already will find the reason in the destination's log.
        let _ = say(&output, &FromReceiver::Refused(refused.clone()));
    }
    outcome
}

fn say<W: Write>(output: &Arc<Mutex<W>>, word: &FromReceiver) -> io::Result<()> {
    let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
    word.write(&mut *output)?;
    output.flush()
}

fn exchange<W: Write + Send + 'static>(
    device: &Arc<Device>,
    input: &mut impl Read,
    output: &Arc<Mutex<W>>,
) -> Result<Received, ReceiveError> {
    let FromSender::Hello { size, block } = FromSender::read(input)? else {
        return Err(nonsense().into());
    };
    let geometry = Geometry::proposed(size, block)
        .ok_or_else(|| Refused::Protocol(format!("blocks of {block} bytes are not spoken of")))?;
    if device.size() < size {
        return Err(Refused::TooSmall(format!(
            "the destination's device has {} bytes, the source's {size}; enlarge the destination to at least that",
            device.size()
        ))
        .into());
    }
    let hello = FromReceiver::Hello {
        size: device.size(),
    };
    say(output, &hello)?;
    let known = Arc::new(Mutex::new(Known::default()));
    let telling = tell_hashes(device, geometry, (&known, output));
    let mut writing = Writing::new(device, geometry, &known);
    let outcome = writing.follow(input);
    // The sender hangs up when it hears that the device cannot be read; that is the reason then, and not its silence.
    if let Some(failed) = lock(&known).failed.take() {
        return Err(Refused::Device(failed).into());
    }
    let digest = outcome?;
    // All hashes were told, or the end would not have been admitted.
    let _ = telling.join();
    let written = writing.written;
    writing.verify()?;
    say(output, &FromReceiver::Verdict { digest, written })?;
    Ok(Received {
        size,
        rest: device.size() - size,
        written,
    })
}

/// The hashes that were told and are not part of the digest yet.
#[derive(Debug, Default)]
struct Known {
    hashes: VecDeque<BlockHash>,
    failed: Option<String>,
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the device and tells its hashes, while others are being answered.
fn tell_hashes<W: Write + Send + 'static>(
    device: &Arc<Device>,
    geometry: Geometry,
    (known, output): (&Arc<Mutex<Known>>, &Arc<Mutex<W>>),
) -> thread::JoinHandle<()> {
    let (device, known, output) = (Arc::clone(device), Arc::clone(known), Arc::clone(output));
    thread::spawn(move || {
        for unit in units(&device, geometry, false) {
            let word = match unit {
                Ok(unit) => {
                    lock(&known).hashes.extend(&unit.hashes);
                    FromReceiver::Hashes(unit.hashes)
                }
                Err(error) => {
                    let text = unreadable(&device, &error);
                    lock(&known).failed = Some(text.clone());
                    FromReceiver::Refused(Refused::Device(text))
                }
            };
            let failed = matches!(word, FromReceiver::Refused(_));
            // A sender that is gone is noticed where it is listened to.
            if say(&output, &word).is_err() || failed {
                return;
            }
        }
    })
}

fn unreadable(device: &Device, error: &io::Error) -> String {
    format!(
        "the destination's device {} cannot be read: {error}; check the storage beneath it",
        device.path().display()
    )
}

/// What is written as the sender tells it.
struct Writing<'a> {
    device: &'a Device,
    geometry: Geometry,
    known: &'a Mutex<Known>,
    /// The first block that is not dealt with.
    next: u64,
    digest: Digest,
    /// Of what was written alone, in order.
    changes: Digest,
    /// Where that is: runs of blocks, first and count.
    runs: Vec<(u64, u64)>,
    written: u64,
}

impl<'a> Writing<'a> {
    fn new(device: &'a Device, geometry: Geometry, known: &'a Mutex<Known>) -> Self {
        Self {
            device,
            geometry,
            known,
            next: 0,
            digest: Digest::default(),
            changes: Digest::default(),
            runs: Vec::new(),
            written: 0,
        }
    }

    /// Does what the sender says, to its end; returns the digest that both ends agree on.
    fn follow(&mut self, input: &mut impl Read) -> Result<BlockHash, ReceiveError> {
        loop {
            match FromSender::read(input)? {
                FromSender::Hello { .. } => return Err(nonsense().into()),
                FromSender::Data { index, bytes } => self.data(index, &bytes)?,
                FromSender::Zero { first, count } => self.zero(first, count)?,
                FromSender::Done { upto } => self.leave(upto)?,
                FromSender::End { digest } => return Ok(self.end(digest)?),
            }
        }
    }

    fn data(&mut self, index: u64, bytes: &[u8]) -> Result<(), Refused> {
        self.leave(index)?;
        if bytes.len() != self.geometry.length(index) {
            return Err(disorder("a block of a wrong length"));
        }
        self.replace(index, &hash_of(bytes))?;
        let offset = self.geometry.offset(index);
        let written = self.device.write(bytes, offset);
        written.map_err(|error| self.unwritable(&error))?;
        self.note(index, 1);
        Ok(())
    }

    fn zero(&mut self, first: u64, count: u64) -> Result<(), Refused> {
        self.leave(first)?;
        let beyond = first.checked_add(count);
        let Some(beyond) = beyond.filter(|end| count > 0 && *end <= self.geometry.blocks()) else {
            return Err(disorder("zeros beyond the end"));
        };
        let full = vec![0; self.geometry.length(first)];
        let usual = hash_of(&full);
        for index in first..beyond {
            let length = self.geometry.length(index);
            let hash = if length == full.len() {
                usual
            } else {
                hash_of(full.get(..length).unwrap_or_default())
            };
            self.replace(index, &hash)?;
        }
        let offset = self.geometry.offset(first);
        let end = self.geometry.offset(beyond).min(self.geometry.size());
        let written = self.device.zero(offset, end - offset);
        written.map_err(|error| self.unwritable(&error))?;
        self.note(first, count);
        Ok(())
    }

    /// The blocks before `upto` are as they were.
    fn leave(&mut self, upto: u64) -> Result<(), Refused> {
        if upto < self.next || upto > self.geometry.blocks() {
            return Err(disorder("blocks out of order or beyond the end"));
        }
        while self.next < upto {
            let hash = self.known_hash()?;
            self.digest.add(&hash);
            self.next += 1;
        }
        Ok(())
    }

    fn replace(&mut self, index: u64, hash: &BlockHash) -> Result<(), Refused> {
        if index != self.next || index >= self.geometry.blocks() {
            return Err(disorder("blocks out of order or beyond the end"));
        }
        self.known_hash()?;
        self.digest.add(hash);
        self.changes.add(hash);
        self.next += 1;
        Ok(())
    }

    /// A sender can only answer what it was told; so nothing is written that is still to be read.
    fn known_hash(&self) -> Result<BlockHash, Refused> {
        lock(self.known)
            .hashes
            .pop_front()
            .ok_or_else(|| disorder("an answer to what was not told yet"))
    }

    fn note(&mut self, first: u64, count: u64) {
        self.written += (first..first + count)
            .map(|index| self.geometry.length(index) as u64)
            .sum::<u64>();
        match self.runs.last_mut() {
            Some((start, length)) if *start + *length == first => *length += count,
            _ => self.runs.push((first, count)),
        }
    }

    fn end(&mut self, theirs: BlockHash) -> Result<BlockHash, Refused> {
        if self.next != self.geometry.blocks() {
            return Err(disorder("an end before the last block"));
        }
        let ours = self.digest.end();
        if ours == theirs {
            Ok(ours)
        } else {
            Err(Refused::Mismatch(
                "the digests of the two devices differ at the end of the transfer; it is repeated by itself".to_owned(),
            ))
        }
    }

    /// Reads back from the disk what was written.
    fn verify(&self) -> Result<(), Refused> {
        self.device
            .settle()
            .map_err(|error| self.unwritable(&error))?;
        let mut found = Digest::default();
        let mut buffer = vec![0; self.geometry.length(0)];
        for (first, count) in &self.runs {
            for index in *first..first + count {
                let length = self.geometry.length(index);
                let block = buffer.get_mut(..length).unwrap_or_default();
                self.device
                    .read(block, self.geometry.offset(index))
                    .map_err(|error| Refused::Device(unreadable(self.device, &error)))?;
                found.add(&hash_of(block));
            }
        }
        if found.end() == self.changes.end() {
            return Ok(());
        }
        Err(Refused::Mismatch(format!(
            "what was written to the destination's device {} does not read back as it was sent; check the storage beneath it",
            self.device.path().display()
        )))
    }

    fn unwritable(&self, error: &io::Error) -> Refused {
        let path = self.device.path().display();
        if error.kind() == io::ErrorKind::StorageFull {
            return Refused::Full(format!(
                "there is no room left beneath the destination's device {path}; enlarge the storage beneath it"
            ));
        }
        Refused::Device(format!(
            "the destination's device {path} cannot be written to: {error}; check the storage beneath it"
        ))
    }
}

fn disorder(what: &str) -> Refused {
    Refused::Protocol(format!(
        "the source sent {what}; give both ends the same release"
    ))
}
