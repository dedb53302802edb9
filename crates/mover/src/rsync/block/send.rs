//! The sending end.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use super::hash::{Unit, units};
use super::wire::{FromReceiver, FromSender, nonsense};
use super::{BlockHash, Device, Digest, Geometry, Refused, is_zero};

/// The receiver gives up when nothing comes for so long. ssh notices dead links much earlier; this is for peers that
/// live and do nothing.
const IDLE_LIMIT: Duration = Duration::from_secs(1800);
/// How long the receiver may take to bring its device to disk and read back what was written.
const VERDICT_LIMIT: Duration = Duration::from_secs(3600);
/// Frames of the receiver that wait to be looked at.
const AHEAD: usize = 4;

/// Why not everything was sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// The receiver says why.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The own device.
    #[error("{0}")]
    Source(io::Error),
    /// The receiver is gone, or speaks something else.
    #[error("{0}")]
    Connection(#[from] io::Error),
    /// The receiver said nothing for so long.
    #[error("nothing came for {} minutes", .0.as_secs() / 60)]
    Silence(Duration),
    /// Both ends have blocks that should be the same and are not.
    #[error("the destination names another digest than the source")]
    Mismatch,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Bytes of the device.
    pub(crate) size: u64,
    /// Bytes of the receiver's device beyond.
    pub(crate) rest: u64,
    /// Blocks that are not zero.
    pub(crate) blocks_in_use: u64,
    /// Bytes of blocks that differed.
    pub(crate) changed: u64,
    /// Bytes that went to the receiver.
    pub(crate) out: u64,
    /// Bytes that came from it.
    pub(crate) back: u64,
}

/// Makes the receiver's device what `device` is. `progress` hears how many bytes are dealt with.
pub(crate) fn send(
    device: Device,
    geometry: Geometry,
    (input, output): (impl Read + Send + 'static, impl Write),
    mut progress: impl FnMut(u64),
) -> Result<Sent, SendError> {
    let mut input = BufReader::with_capacity(256 * 1024, Counted::new(input));
    let mut output = BufWriter::with_capacity(1024 * 1024, Counted::new(output));
    let hello = FromSender::Hello {
        size: geometry.size,
        block: geometry.block,
    };
    tell(&mut output, &hello)?;
    let rest = match FromReceiver::read(&mut input)? {
        FromReceiver::Hello { size } => size.checked_sub(geometry.size).ok_or_else(nonsense)?,
        FromReceiver::Refused(refused) => return Err(refused.into()),
        FromReceiver::Hashes(_) | FromReceiver::Verdict { .. } => return Err(nonsense().into()),
    };
    let mut answering = Answering {
        geometry,
        answers: listen(input),
        theirs: Vec::new(),
        came: 0,
        digest: Digest::default(),
        sent: Sent {
            size: geometry.size,
            rest,
            ..Sent::default()
        },
    };
    let device = Arc::new(device);
    for unit in units(&device, geometry, true) {
        let unit = unit.map_err(SendError::Source)?;
        let outcome = answering.answer(&unit, &mut output);
        outcome.map_err(|error| answering.explain(error))?;
        let dealt = unit.first + unit.hashes.len() as u64;
        progress(geometry.offset(dealt).min(geometry.size));
    }
    let digest = answering.digest.end();
    let ended = tell(&mut output, &FromSender::End { digest }).map_err(SendError::from);
    ended.map_err(|error| answering.explain(error))?;
    answering.verdict(digest)?;
    answering.sent.out = output.get_ref().count;
    Ok(answering.sent)
}

fn tell(output: &mut impl Write, word: &FromSender) -> io::Result<()> {
    word.write(output)?;
    output.flush()
}

/// A word of the receiver, and how many bytes had come by then.
type Heard = io::Result<(FromReceiver, u64)>;

/// Hears the receiver, so that it never waits for a sender that is sending.
fn listen<R: Read + Send + 'static>(mut input: BufReader<Counted<R>>) -> Receiver<Heard> {
    let (sender, receiver) = sync_channel(AHEAD);
    thread::spawn(move || {
        loop {
            let word = FromReceiver::read(&mut input).map(|word| (word, input.get_ref().count));
            let over = matches!(
                word,
                Err(_) | Ok((FromReceiver::Verdict { .. } | FromReceiver::Refused(_), _))
            );
            if sender.send(word).is_err() || over {
                return;
            }
        }
    });
    receiver
}

struct Answering {
    geometry: Geometry,
    answers: Receiver<Heard>,
    /// Hashes that came and are not compared yet.
    theirs: Vec<BlockHash>,
    /// How many came in all.
    came: u64,
    digest: Digest,
    sent: Sent,
}

impl Answering {
    fn hear(&mut self, limit: Duration) -> Result<FromReceiver, SendError> {
        match self.answers.recv_timeout(limit) {
            Ok(Ok((FromReceiver::Refused(refused), _))) => Err(refused.into()),
            Ok(Ok((word, received))) => {
                self.sent.back = received;
                Ok(word)
            }
            Ok(Err(error)) => Err(error.into()),
            Err(RecvTimeoutError::Timeout) => Err(SendError::Silence(limit)),
            Err(RecvTimeoutError::Disconnected) => Err(nonsense().into()),
        }
    }

    /// A receiver that refuses hangs up; its words, if they came, say more than the broken connection.
    fn explain(&mut self, error: SendError) -> SendError {
        if !matches!(error, SendError::Connection(_)) {
            return error;
        }
        loop {
            match self.hear(Duration::from_secs(1)) {
                Err(SendError::Refused(refused)) => return refused.into(),
                Ok(_) => {}
                Err(_) => return error,
            }
        }
    }

    fn answer(&mut self, unit: &Unit, output: &mut impl Write) -> Result<(), SendError> {
        while self.theirs.len() < unit.hashes.len() {
            match self.hear(IDLE_LIMIT)? {
                FromReceiver::Hashes(hashes) => {
                    self.came += hashes.len() as u64;
                    if self.came > self.geometry.blocks() {
                        return Err(nonsense().into());
                    }
                    self.theirs.extend(hashes);
                }
                _ => return Err(nonsense().into()),
            }
        }
        let theirs: Vec<BlockHash> = self.theirs.drain(..unit.hashes.len()).collect();
        let block = usize::try_from(self.geometry.block).unwrap_or(usize::MAX);
        let mut zeros: Option<(u64, u64)> = None;
        let blocks = unit.data.chunks(block).zip(&unit.hashes).zip(&theirs);
        for (index, ((bytes, ours), theirs)) in (unit.first..).zip(blocks) {
            self.digest.add(ours);
            let zero = is_zero(bytes);
            self.sent.blocks_in_use += u64::from(!zero);
            let same = ours == theirs;
            if !same {
                self.sent.changed += bytes.len() as u64;
            }
            if !same && zero {
                let run = zeros.get_or_insert((index, 0));
                run.1 += 1;
                continue;
            }
            end_run(&mut zeros, output)?;
            if !same {
                let bytes = bytes.to_vec();
                FromSender::Data { index, bytes }.write(output)?;
            }
        }
        end_run(&mut zeros, output)?;
        let upto = unit.first + unit.hashes.len() as u64;
        tell(output, &FromSender::Done { upto })?;
        Ok(())
    }

    fn verdict(&mut self, digest: BlockHash) -> Result<(), SendError> {
        match self.hear(VERDICT_LIMIT)? {
            FromReceiver::Verdict { digest: theirs, .. } if theirs == digest => Ok(()),
            FromReceiver::Verdict { .. } => Err(SendError::Mismatch),
            _ => Err(nonsense().into()),
        }
    }
}

fn end_run(zeros: &mut Option<(u64, u64)>, output: &mut impl Write) -> io::Result<()> {
    match zeros.take() {
        Some((first, count)) => FromSender::Zero { first, count }.write(output),
        None => Ok(()),
    }
}

/// Counts what goes through.
struct Counted<T> {
    inner: T,
    count: u64,
}

impl<T> Counted<T> {
    fn new(inner: T) -> Self {
        Self { inner, count: 0 }
    }
}

impl<T: Read> Read for Counted<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count += count as u64;
        Ok(count)
    }
}

impl<T: Write> Write for Counted<T> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buffer)?;
        self.count += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
