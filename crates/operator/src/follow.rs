//! Live progress: one task for each running mover reads its log through the API.
//!
//! Invariant: what it tells changes at most once in [`INTERVAL`] for a resource, so that progress costs at most one
//! status write in that time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{AsyncBufReadExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, LogParams};
use syncline_api::report::{PrintedReport, Report, parse_line, parse_report_line};
use syncline_api::status::Progress;
use tokio_util::task::AbortOnDropHandle;

use crate::clock::Clock;
use crate::kinds::Key;
use crate::queue::Queue;

/// How often a resource's progress is told at most.
const INTERVAL: SignedDuration = SignedDuration::from_secs(5);
/// With so many lines of what was logged before does following begin: only how far a mover has come is of interest, and
/// after a restart of the operator the whole log would tell of its beginnings first.
const LINES_BEFORE: i64 = 20;

#[derive(Debug)]
struct Followed {
    uid: String,
    task: AbortOnDropHandle<()>,
}

/// Where a mover runs.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The pod's name.
    pub pod: &'a str,
    /// Its uid.
    pub uid: &'a str,
    /// The name of the mover's container.
    pub container: &'a str,
}

/// A report that stood in a mover's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reported {
    /// The uid of the mover's pod.
    pub pod: String,
    /// What it reported.
    pub report: Report,
    /// Whether nothing is left to do for it but to exit.
    pub last: bool,
}

/// What a mover told, and what of it is shown.
#[derive(Debug, Default)]
struct Told {
    reported: Option<Reported>,
    newest: Option<Progress>,
    shown: Option<(Progress, Timestamp)>,
}

impl Told {
    /// Takes note; returns when the resource is to be looked at for it, as long as it is not shown. A look that came a moment
    /// too early is made up for by the next word of the mover, though it be the same.
    fn note(&mut self, progress: Progress, now: Timestamp) -> Option<Timestamp> {
        let shown = self.shown.as_ref();
        let is_shown = shown.is_some_and(|(shown, _)| *shown == progress);
        let at = shown.map_or(now, |(_, at)| *at + INTERVAL);
        self.newest = Some(progress);
        (!is_shown).then_some(at)
    }

    /// What is to be shown now: the newest, unless something else was shown just before.
    fn show(&mut self, now: Timestamp) -> Option<Progress> {
        let fresh = self
            .shown
            .as_ref()
            .is_none_or(|(_, at)| now.duration_since(*at) >= INTERVAL);
        if let (true, Some(newest)) = (fresh, &self.newest)
            && self.shown.as_ref().map(|(shown, _)| shown) != Some(newest)
        {
            self.shown = Some((newest.clone(), now));
        }
        self.shown.as_ref().map(|(shown, _)| shown.clone())
    }
}

type Board = Arc<Mutex<HashMap<Key, Told>>>;

/// All logs that are being followed, and what they told.
#[derive(Debug, Default)]
pub struct Followers {
    followed: Mutex<HashMap<Key, Followed>>,
    board: Board,
}

impl Followers {
    /// What is to be shown now of what the mover of `key` told.
    pub fn progress(&self, key: &Key, now: Timestamp) -> Option<Progress> {
        self.board
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_mut(key)?
            .show(now)
    }

    /// What the mover of `key` reported in its log, if it has come to its end.
    pub fn reported(&self, key: &Key) -> Option<Reported> {
        let board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        board.get(key)?.reported.clone()
    }

    /// Follows the log of a pod's mover, unless that is done already.
    pub fn follow(
        &self,
        client: &Client,
        key: &Key,
        pod: Place<'_>,
        shared: (&Queue<Key>, &Arc<dyn Clock>),
    ) {
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        let Place {
            pod: name,
            uid,
            container,
        } = pod;
        if followed
            .get(key)
            .is_some_and(|known| known.uid == uid && !known.task.is_finished())
        {
            return;
        }
        if followed.get(key).is_some_and(|known| known.uid != uid) {
            // What an earlier pod told says nothing of this one.
            self.board
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(key);
        }
        let api: Api<Pod> = Api::namespaced(client.clone(), &key.namespace);
        let reader = Follower {
            key: key.clone(),
            uid: uid.to_owned(),
            container: container.to_owned(),
            board: Arc::clone(&self.board),
            queue: shared.0.clone(),
            clock: Arc::clone(shared.1),
        };
        let name = name.to_owned();
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            if let Err(error) = reader.read(&api, &name).await {
                tracing::debug!(pod = name, error = %error, "the mover's log is not followed any more");
            }
        }));
        followed.insert(
            key.clone(),
            Followed {
                uid: uid.to_owned(),
                task,
            },
        );
    }

    /// Lets go of a resource whose mover does not run.
    pub fn forget(&self, key: &Key) {
        self.followed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key);
        self.board
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key);
    }
}

struct Follower {
    key: Key,
    uid: String,
    container: String,
    board: Board,
    queue: Queue<Key>,
    clock: Arc<dyn Clock>,
}

/// Why a log is not followed any more.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the log could not be opened: {0}")]
    Open(#[from] kube::Error),
    #[error("the log could not be read: {0}")]
    Read(#[from] std::io::Error),
}

impl Follower {
    async fn read(&self, api: &Api<Pod>, pod: &str) -> Result<(), Error> {
        let parameters = LogParams {
            container: Some(self.container.clone()),
            follow: true,
            tail_lines: Some(LINES_BEFORE),
            ..LogParams::default()
        };
        let mut lines = api.log_stream(pod, &parameters).await?.lines();
        while let Some(line) = lines.try_next().await? {
            if let Some(progress) = parse_line(&line) {
                self.tell(progress);
            } else if let Some(printed) = parse_report_line(&line) {
                self.tell_end(printed);
            }
        }
        Ok(())
    }

    /// The end is told at once, whatever was shown just before.
    fn tell_end(&self, PrintedReport { report, last }: PrintedReport) {
        let reported = Some(Reported {
            pod: self.uid.clone(),
            report,
            last,
        });
        let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        board.entry(self.key.clone()).or_default().reported = reported;
        drop(board);
        self.queue.add(self.key.clone(), self.clock.now());
    }

    fn tell(&self, progress: Progress) {
        let now = self.clock.now();
        let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        let look = board
            .entry(self.key.clone())
            .or_default()
            .note(progress, now);
        drop(board);
        if let Some(at) = look {
            self.queue.add(self.key.clone(), at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn bytes(done: i64) -> Progress {
        Progress {
            bytes_done: Some(done),
            ..Progress::default()
        }
    }

    fn shown(told: &mut Told, second: i64) -> Option<i64> {
        told.show(at(second))?.bytes_done
    }

    #[test]
    fn progress_is_shown_at_once_and_then_every_five_seconds() {
        let mut told = Told::default();
        assert_eq!(shown(&mut told, 0), None);
        assert_eq!(told.note(bytes(1), at(0)), Some(at(0)));
        assert_eq!(shown(&mut told, 0), Some(1));
        assert_eq!(told.note(bytes(2), at(1)), Some(at(5)));
        assert_eq!(told.note(bytes(3), at(2)), Some(at(5)));
        assert_eq!(shown(&mut told, 4), Some(1), "another event came between");
        assert_eq!(shown(&mut told, 5), Some(3), "the newest, not the first");
        assert_eq!(told.note(bytes(4), at(6)), Some(at(10)));
    }

    #[test]
    fn what_says_nothing_new_asks_for_no_look() {
        let mut told = Told::default();
        assert!(told.note(bytes(1), at(0)).is_some());
        assert_eq!(shown(&mut told, 0), Some(1));
        assert_eq!(told.note(bytes(1), at(60)), None);
    }

    #[test]
    fn what_was_looked_at_too_early_is_asked_for_again() {
        let mut told = Told::default();
        assert!(told.note(bytes(1), at(0)).is_some());
        assert_eq!(shown(&mut told, 0), Some(1));
        assert_eq!(told.note(bytes(2), at(1)), Some(at(5)));
        assert_eq!(shown(&mut told, 4), Some(1));
        assert_eq!(told.note(bytes(2), at(6)), Some(at(5)));
        assert_eq!(shown(&mut told, 6), Some(2));
        assert_eq!(told.note(bytes(2), at(7)), None);
    }

    #[test]
    fn however_often_it_is_looked_at_it_changes_once_in_five_seconds() {
        let mut told = Told::default();
        let (mut changes, mut before) = (0, None);
        for tenth in 0..600_i64 {
            let now = at(0) + SignedDuration::from_millis(tenth * 100);
            told.note(bytes(tenth), now);
            let after = told.show(now);
            changes += i32::from(after != before);
            before = after;
        }
        assert_eq!(changes, 12, "in a minute");
    }
}
