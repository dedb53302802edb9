//! The only writer: one thread that commits waiting changes together.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, mpsc},
};

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{
    Change, Event, EventKind, Expect, Key, Request, Shared, Stored, WriteError,
    database::ObjectDatabase,
};

/// How many changes share one transaction at most.
const BATCH: usize = 256;

type Answer = oneshot::Sender<Result<Arc<Stored>, WriteError>>;

/// Changes that were accepted but not committed yet.
struct Batch {
    revision: u64,
    /// The state of every touched key after the batch.
    touched: BTreeMap<Key, Option<Arc<Stored>>>,
    events: Vec<Arc<Event>>,
    answers: Vec<(Answer, Arc<Stored>)>,
}

/// Serves requests until every sender is gone.
pub(super) fn run(database: &ObjectDatabase, shared: &Shared, requests: &mpsc::Receiver<Request>) {
    while let Ok(first) = requests.recv() {
        let mut batch = Batch {
            revision: shared
                .state
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .revision,
            touched: BTreeMap::new(),
            events: Vec::new(),
            answers: Vec::new(),
        };
        batch.take(shared, first);
        while batch.events.len() < BATCH
            && let Ok(next) = requests.try_recv()
        {
            batch.take(shared, next);
        }
        if !batch.events.is_empty() {
            batch.finish(database, shared);
        }
    }
}

impl Batch {
    fn take(&mut self, shared: &Shared, request: Request) {
        let Request { change, answer } = request;
        match self.apply(shared, change) {
            Ok(stored) => self.answers.push((answer, stored)),
            // Whoever asked may have gone away meanwhile; nobody is left to tell.
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    fn apply(&mut self, shared: &Shared, change: Change) -> Result<Arc<Stored>, WriteError> {
        let Change {
            key,
            expect,
            object,
        } = change;
        let before = match self.touched.get(&key) {
            Some(touched) => touched.clone(),
            None => shared
                .state
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .objects
                .get(&key)
                .cloned(),
        };
        match (expect, &before) {
            (Expect::Absent, None) => {}
            (Expect::Absent, Some(_)) => return Err(WriteError::Exists { key }),
            (Expect::Revision(expected), Some(found)) if found.revision == expected => {}
            (Expect::Revision(_), _) => return Err(WriteError::Changed { key }),
        }
        let kind = match (&object, &before) {
            (None, _) => EventKind::Deleted,
            (Some(_), None) => EventKind::Added,
            (Some(_), Some(_)) => EventKind::Modified,
        };
        let Some(mut content) =
            object.or_else(|| before.as_ref().map(|before| before.object.clone()))
        else {
            return Err(WriteError::Changed { key });
        };
        self.revision += 1;
        set_resource_version(&mut content, self.revision);
        let now = Arc::new(Stored {
            key: key.clone(),
            revision: self.revision,
            object: content,
        });
        self.touched
            .insert(key, (kind != EventKind::Deleted).then(|| Arc::clone(&now)));
        self.events.push(Arc::new(Event {
            kind,
            now: Arc::clone(&now),
            before,
        }));
        Ok(now)
    }

    fn finish(self, database: &ObjectDatabase, shared: &Shared) {
        let changes = self
            .touched
            .iter()
            .map(|(key, stored)| (key, stored.as_deref()));
        if let Err(error) = database.commit(self.revision, changes) {
            tracing::error!(%error, "the database refused a write");
            let cause = error.to_string();
            for (answer, _) in self.answers {
                drop(answer.send(Err(WriteError::Database {
                    cause: cause.clone(),
                })));
            }
            return;
        }
        {
            let mut state = shared.state.write().unwrap_or_else(PoisonError::into_inner);
            state.revision = self.revision;
            for (key, stored) in self.touched {
                match stored {
                    Some(stored) => state.objects.insert(key, stored),
                    None => state.objects.remove(&key),
                };
            }
            for event in self.events {
                state.history.push(event);
            }
        }
        shared.revision.send_replace(self.revision);
        for (answer, stored) in self.answers {
            drop(answer.send(Ok(stored)));
        }
    }
}

fn set_resource_version(object: &mut Value, revision: u64) {
    if let Some(object) = object.as_object_mut() {
        let metadata = object.entry("metadata").or_insert_with(|| json!({}));
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.insert(
                "resourceVersion".to_owned(),
                Value::String(revision.to_string()),
            );
        }
    }
}
