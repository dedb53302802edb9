//! Containers' logs: one file a start, in the line format of Kubernetes' container runtimes.
//!
//! A line reads `2026-11-21T10:46:15.123456789Z stdout F text`; `P` instead of `F` says that the line goes on.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::sync::watch;

use crate::clock::Clock;

/// The longest piece of a line that is written at once, as container runtimes have it.
const PIECE: usize = 16 * 1024;

/// How far a log file has grown, and whether it will grow more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Growth {
    /// Bytes written so far.
    pub(crate) bytes: u64,
    /// Nothing follows.
    pub(crate) complete: bool,
}

/// The log files that are being written, by their path: a follower waits for their growth.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpenLogs(Arc<Mutex<HashMap<PathBuf, watch::Sender<Growth>>>>);

impl OpenLogs {
    /// Watches a file's growth; a file that nobody writes is complete.
    pub(crate) fn growth(&self, path: &Path) -> watch::Receiver<Growth> {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let complete = || {
            watch::channel(Growth {
                bytes: u64::MAX,
                complete: true,
            })
            .1
        };
        open.get(path)
            .map_or_else(complete, watch::Sender::subscribe)
    }

    fn register(&self, path: &Path) -> watch::Sender<Growth> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.entry(path.to_owned())
            .or_insert_with(|| watch::channel(Growth::default()).0)
            .clone()
    }

    fn remove(&self, path: &Path) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(path);
    }
}

/// The folder of a container's logs.
pub(crate) fn folder(data_dir: &Path, uid: &str, container: &str) -> PathBuf {
    data_dir.join("pods").join(uid).join(container)
}

/// The log file of a container's start number `start`, counted from 0.
pub(crate) fn file(data_dir: &Path, uid: &str, container: &str, start: i32) -> PathBuf {
    folder(data_dir, uid, container).join(format!("{start}.log"))
}

/// Writes one start's log.
#[derive(Clone)]
pub(crate) struct LogWriter {
    file: Arc<tokio::sync::Mutex<File>>,
    growth: watch::Sender<Growth>,
    open: OpenLogs,
    path: PathBuf,
    clock: Arc<dyn Clock>,
}

impl LogWriter {
    /// Makes the file.
    pub(crate) async fn create(
        path: &Path,
        open: OpenLogs,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(path).await?;
        let growth = open.register(path);
        Ok(Self {
            file: Arc::new(tokio::sync::Mutex::new(file)),
            growth,
            open,
            path: path.to_owned(),
            clock,
        })
    }

    /// Copies everything that comes from `from`, as lines of `stream` (`stdout` or `stderr`).
    pub(crate) async fn copy(&self, stream: &str, from: impl AsyncRead + Unpin) -> io::Result<()> {
        let mut reader = BufReader::with_capacity(PIECE, from);
        let mut piece = Vec::new();
        loop {
            let available = reader.fill_buf().await?;
            if available.is_empty() {
                break;
            }
            let line_end = available.iter().position(|byte| *byte == b'\n');
            let taken = line_end
                .map_or(available.len(), |index| index + 1)
                .min(PIECE - piece.len());
            piece.extend_from_slice(available.get(..taken).unwrap_or_default());
            reader.consume(taken);
            if piece.ends_with(b"\n") || piece.len() == PIECE {
                self.write(stream, &piece).await?;
                piece.clear();
            }
        }
        if !piece.is_empty() {
            self.write(stream, &piece).await?;
        }
        Ok(())
    }

    async fn write(&self, stream: &str, piece: &[u8]) -> io::Result<()> {
        let (text, tag) = piece
            .strip_suffix(b"\n")
            .map_or((piece, 'P'), |text| (text, 'F'));
        let mut line = format!("{:.9} {stream} {tag} ", self.clock.now()).into_bytes();
        line.extend_from_slice(text);
        line.push(b'\n');
        let mut file = self.file.lock().await;
        file.write_all(&line).await?;
        file.flush().await?;
        let written = u64::try_from(line.len()).unwrap_or(u64::MAX);
        self.growth.send_modify(|growth| growth.bytes += written);
        Ok(())
    }

    /// Tells followers that nothing more comes.
    pub(crate) fn complete(&self) {
        self.growth.send_modify(|growth| growth.complete = true);
        self.open.remove(&self.path);
    }
}

/// One piece of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogLine<'a> {
    /// When it was written.
    pub(crate) at: Timestamp,
    /// The same as written in the file.
    pub(crate) stamp: &'a [u8],
    /// The text; its line's end is there only when the line is whole.
    pub(crate) text: &'a [u8],
    /// The next piece belongs to the same line.
    pub(crate) partial: bool,
}

/// Reads a line of a log file, without its end.
pub(crate) fn parse_line(line: &[u8]) -> Option<LogLine<'_>> {
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let (stamp, _stream, tag) = (fields.next()?, fields.next()?, fields.next()?);
    let text = fields.next()?;
    let at = std::str::from_utf8(stamp).ok()?.parse().ok()?;
    Some(LogLine {
        at,
        stamp,
        text,
        partial: tag == b"P",
    })
}

/// The last `limit` bytes of the last 80 lines of a log file: what `FallbackToLogsOnError` shows.
pub(crate) async fn tail(path: &Path, limit: usize) -> String {
    let content = tokio::fs::read(path).await.unwrap_or_default();
    let mut text = Vec::new();
    let lines: Vec<LogLine<'_>> = content
        .split(|byte| *byte == b'\n')
        .filter_map(parse_line)
        .collect();
    let first = lines.len().saturating_sub(80);
    for line in lines.get(first..).unwrap_or_default() {
        text.extend_from_slice(line.text);
        if !line.partial {
            text.push(b'\n');
        }
    }
    let kept = text
        .get(text.len().saturating_sub(limit)..)
        .unwrap_or_default();
    String::from_utf8_lossy(kept).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::tests::FixedClock;

    #[tokio::test]
    async fn a_line_is_written_as_container_runtimes_do_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        let open = OpenLogs::default();
        let writer = LogWriter::create(&path, open.clone(), Arc::new(FixedClock::default()))
            .await
            .unwrap();
        let growth = open.growth(&path);
        writer.copy("stdout", &b"hello\nworld"[..]).await.unwrap();
        let content = tokio::fs::read_to_string(&path).await.unwrap();
        assert_eq!(
            content,
            "2026-11-21T10:00:00.000000000Z stdout F hello\n2026-11-21T10:00:00.000000000Z stdout P world\n"
        );
        assert_eq!(growth.borrow().bytes, u64::try_from(content.len()).unwrap());
        writer.complete();
        assert!(growth.borrow().complete && open.growth(&path).borrow().complete);
        let line = parse_line(content.lines().next().unwrap().as_bytes()).unwrap();
        assert_eq!((line.text, line.partial), (&b"hello"[..], false));
        assert_eq!(tail(&path, 7).await, "o\nworld");
    }
}
