//! `kubectl logs`: reads the log files, and follows those that still grow.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::watch;

use super::log::{self, Growth, OpenLogs, parse_line};
use crate::server::logs::{LogError, LogQuery, PodLogs};

/// How much of a file is read at once.
const CHUNK: usize = 64 * 1024;

/// The logs of the node's pods.
#[derive(Clone, Debug)]
pub(crate) struct NodeLogs {
    data_dir: PathBuf,
    open: OpenLogs,
}

impl NodeLogs {
    pub(super) fn new(data_dir: PathBuf, open: OpenLogs) -> Self {
        Self { data_dir, open }
    }
}

impl PodLogs for NodeLogs {
    fn open(
        &self,
        query: LogQuery,
    ) -> BoxFuture<'static, Result<BoxStream<'static, Bytes>, LogError>> {
        let this = self.clone();
        async move {
            let (pod, container) = (query.pod.clone(), query.container.clone());
            let unreadable = |source| LogError::Unreadable {
                pod: pod.clone(),
                container: container.clone(),
                source,
            };
            let folder = log::folder(&this.data_dir, &query.uid, &query.container);
            let starts = starts(&folder).await.map_err(unreadable)?;
            let Some(last) = starts.last().copied() else {
                let reason = "ContainerCreating".to_owned();
                return Err(LogError::NotStarted {
                    pod: query.pod,
                    container: query.container,
                    reason,
                });
            };
            let before = starts.iter().rev().nth(1).copied();
            let wanted = if query.previous { before } else { Some(last) };
            let Some(start) = wanted else {
                return Err(LogError::NoPrevious {
                    pod: query.pod,
                    container: query.container,
                });
            };
            let path = log::file(&this.data_dir, &query.uid, &query.container, start);
            // Subscribed before the first read, so that no growth goes unseen.
            let growth = this.open.growth(&path);
            let reader = Reader::open(&path, growth, query)
                .await
                .map_err(unreadable)?;
            Ok(futures::stream::unfold(reader, |mut reader| async move {
                let piece = reader.next().await?;
                Some((piece, reader))
            })
            .boxed())
        }
        .boxed()
    }
}

/// The numbers of a container's starts that have a log, in order.
async fn starts(folder: &Path) -> io::Result<Vec<i32>> {
    let mut found = Vec::new();
    let mut entries = match tokio::fs::read_dir(folder).await {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error),
    };
    while let Some(entry) = entries.next_entry().await? {
        let name = entry.file_name();
        let number: Option<i32> = name
            .to_str()
            .and_then(|name| name.strip_suffix(".log"))
            .and_then(|number| number.parse().ok());
        found.extend(number);
    }
    found.sort_unstable();
    Ok(found)
}

struct Reader {
    file: File,
    growth: watch::Receiver<Growth>,
    query: LogQuery,
    /// The begin of a line whose end is not there yet.
    rest: Vec<u8>,
    /// Bytes that may still be given.
    left: u64,
    /// The next piece begins a line.
    at_line_start: bool,
}

impl Reader {
    async fn open(
        path: &Path,
        growth: watch::Receiver<Growth>,
        query: LogQuery,
    ) -> io::Result<Self> {
        let mut file = File::open(path).await?;
        if let Some(lines) = query.tail_lines {
            let content = tokio::fs::read(path).await?;
            let offset = tail_offset(&content, usize::try_from(lines).unwrap_or(usize::MAX));
            file.seek(io::SeekFrom::Start(
                u64::try_from(offset).map_err(io::Error::other)?,
            ))
            .await?;
        }
        let left = query.limit_bytes.unwrap_or(u64::MAX);
        Ok(Self {
            file,
            growth,
            query,
            rest: Vec::new(),
            left,
            at_line_start: true,
        })
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.left == 0 {
                return None;
            }
            let complete = self.growth.borrow_and_update().complete;
            let mut chunk = vec![0; CHUNK];
            // A log that cannot be read any more has ended.
            let length = self.file.read(&mut chunk).await.unwrap_or(0);
            if length > 0 {
                let text = self.take(chunk.get(..length).unwrap_or_default());
                if !text.is_empty() {
                    return Some(Bytes::from(text));
                }
            } else if complete || !self.query.follow {
                return None;
            } else {
                // When the sender is gone the log is complete; the next read finds what is left.
                let closed = self.growth.changed().await.is_err();
                if closed {
                    self.query.follow = false;
                }
            }
        }
    }

    fn take(&mut self, chunk: &[u8]) -> Vec<u8> {
        self.rest.extend_from_slice(chunk);
        let mut text = Vec::new();
        let whole = self
            .rest
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |index| index + 1);
        let lines: Vec<u8> = self.rest.drain(..whole).collect();
        for line in lines.split(|byte| *byte == b'\n').filter_map(parse_line) {
            if self.query.since.is_some_and(|since| line.at < since) {
                continue;
            }
            if self.query.timestamps && self.at_line_start {
                text.extend_from_slice(line.stamp);
                text.push(b' ');
            }
            text.extend_from_slice(line.text);
            self.at_line_start = !line.partial;
            if !line.partial {
                text.push(b'\n');
            }
        }
        text.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= u64::try_from(text.len()).unwrap_or(self.left);
        text
    }
}

/// Where the last `lines` lines of a file begin; pieces of one line count once.
fn tail_offset(content: &[u8], lines: usize) -> usize {
    let mut begins = Vec::new();
    let mut offset = 0;
    let mut goes_on = false;
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        if !goes_on {
            begins.push(offset);
        }
        goes_on =
            parse_line(line.strip_suffix(b"\n").unwrap_or(line)).is_some_and(|line| line.partial);
        offset += line.len();
    }
    let first = begins.len().saturating_sub(lines);
    begins.get(first).copied().unwrap_or(content.len())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::node::log::LogWriter;
    use crate::node::tests::FixedClock;

    fn query(follow: bool, tail_lines: Option<u64>) -> LogQuery {
        LogQuery {
            namespace: "n".to_owned(),
            pod: "p".to_owned(),
            uid: "u".to_owned(),
            container: "c".to_owned(),
            previous: false,
            follow,
            tail_lines,
            limit_bytes: None,
            since: None,
            timestamps: false,
        }
    }

    async fn text(stream: BoxStream<'static, Bytes>) -> String {
        let pieces: Vec<Bytes> = stream.collect().await;
        String::from_utf8(pieces.concat()).unwrap()
    }

    #[tokio::test]
    async fn a_follower_sees_what_comes_later_and_ends_with_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = log::file(folder.path(), "u", "c", 0);
        tokio::fs::create_dir_all(path.parent().unwrap())
            .await
            .unwrap();
        let open = OpenLogs::default();
        let writer = LogWriter::create(&path, open.clone(), Arc::new(FixedClock::default()))
            .await
            .unwrap();
        let logs = NodeLogs::new(folder.path().to_owned(), open);
        writer.copy("stdout", &b"one\ntwo\n"[..]).await.unwrap();
        let following = tokio::spawn(text(logs.open(query(true, Some(1))).await.unwrap()));
        writer.copy("stderr", &b"three\n"[..]).await.unwrap();
        writer.complete();
        assert_eq!(following.await.unwrap(), "two\nthree\n");
        assert_eq!(
            text(logs.open(query(false, None)).await.unwrap()).await,
            "one\ntwo\nthree\n"
        );
    }

    #[tokio::test]
    async fn a_container_that_was_not_started_has_no_log() {
        let folder = tempfile::tempdir().unwrap();
        let logs = NodeLogs::new(folder.path().to_owned(), OpenLogs::default());
        let error = logs.open(query(false, None)).await.err().unwrap();
        assert!(error.to_string().contains("is waiting to start"));
    }

    #[test]
    fn the_pieces_of_a_long_line_count_as_one() {
        let line =
            |tag: &str, text: &str| format!("2026-11-21T10:00:00.000000000Z stdout {tag} {text}\n");
        let content = [line("F", "a"), line("P", "b"), line("F", "c")].concat();
        assert_eq!(tail_offset(content.as_bytes(), 1), line("F", "a").len());
        assert_eq!(tail_offset(content.as_bytes(), 9), 0);
        assert_eq!(tail_offset(content.as_bytes(), 0), content.len());
    }
}
