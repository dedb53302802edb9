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
use syncline_api::report::parse_line;
use syncline_api::status::Progress;
use tokio_util::task::AbortOnDropHandle;

use crate::clock::Clock;
use crate::kinds::Key;
use crate::plan::CONTAINER;
use crate::queue::Queue;

/// How often a resource's progress is told at most.
const INTERVAL: SignedDuration = SignedDuration::from_secs(5);

#[derive(Debug)]
struct Followed {
    uid: String,
    task: AbortOnDropHandle<()>,
}

#[derive(Debug, Default)]
struct Told {
    progress: Option<Progress>,
    at: Option<Timestamp>,
}

type Board = Arc<Mutex<HashMap<Key, Told>>>;

/// All logs that are being followed, and what they told.
#[derive(Debug, Default)]
pub struct Followers {
    followed: Mutex<HashMap<Key, Followed>>,
    board: Board,
}

impl Followers {
    /// What the mover of `key` last told.
    pub fn progress(&self, key: &Key) -> Option<Progress> {
        self.board
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)?
            .progress
            .clone()
    }

    /// Follows the log of a pod's mover, unless that is done already.
    pub fn follow(
        &self,
        client: &Client,
        key: &Key,
        pod: (&str, &str),
        shared: (&Queue<Key>, &Arc<dyn Clock>),
    ) {
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        let (name, uid) = pod;
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
            container: Some(CONTAINER.to_owned()),
            follow: true,
            ..LogParams::default()
        };
        let mut lines = api.log_stream(pod, &parameters).await?.lines();
        while let Some(line) = lines.try_next().await? {
            if let Some(progress) = parse_line(&line) {
                self.tell(progress);
            }
        }
        Ok(())
    }

    fn tell(&self, progress: Progress) {
        let now = self.clock.now();
        let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        let told = board.entry(self.key.clone()).or_default();
        if told.progress.as_ref() == Some(&progress)
            || told.at.is_some_and(|at| now.duration_since(at) < INTERVAL)
        {
            return;
        }
        *told = Told {
            progress: Some(progress),
            at: Some(now),
        };
        drop(board);
        self.queue.add(self.key.clone(), now);
    }
}
