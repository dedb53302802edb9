//! The store: objects, revisions and their history in an embedded database.
//!
//! Every object is in memory; the database holds the same as JSON, keyed `group/plural/namespace/name`. One thread writes:
//! it takes all changes that wait, checks each against what it expects, commits them in one durable transaction, and only
//! then shows and acknowledges them. Nothing that a reader or a watcher sees can be lost.
//!
//! Invariant: what was acknowledged survives the loss of power. A revision is never given twice.

mod database;
mod history;
mod lock;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    path::Path,
    sync::{Arc, Mutex, PoisonError, RwLock, mpsc},
    thread::JoinHandle,
};

use serde_json::Value;
use tokio::sync::{oneshot, watch};

use database::ObjectDatabase;
use history::History;
pub(crate) use history::{Event, EventKind, Expired};
pub(crate) use lock::{DataLock, LockError};

/// Which object: its resource (`group/plural`, the group of the core being empty), namespace (empty for cluster scope), name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) resource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(group: &str, plural: &str, namespace: &str, name: &str) -> Self {
        Self {
            resource: format!("{group}/{plural}"),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}/{}/{}",
            self.resource, self.namespace, self.name
        )
    }
}

/// One object as it stands since `revision`, which is also its `metadata.resourceVersion`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stored {
    pub(crate) key: Key,
    pub(crate) revision: u64,
    pub(crate) object: Value,
}

/// What a change found before it must be, for it to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    Absent,
    Revision(u64),
}

/// One write: the new object, or `None` to remove it.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) key: Key,
    pub(crate) expect: Expect,
    pub(crate) object: Option<Value>,
}

/// Why a change was not made.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error("{key} exists already")]
    Exists { key: Key },
    #[error("{key} has changed since it was read")]
    Changed { key: Key },
    #[error(
        "the database cannot be written: {cause}; see that its disk has space and is writable, then start again"
    )]
    Database { cause: String },
    #[error("the store is closed")]
    Closed,
}

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("cannot open {path}: {source}; see that it exists and belongs to this user")]
    File {
        path: String,
        source: std::io::Error,
    },
    #[error(
        "the database is not readable: {0}; restore cluster.db from a copy, or start with another data folder"
    )]
    Database(String),
    #[error(
        "the database holds an unreadable object {key}: {cause}; restore cluster.db from a copy"
    )]
    Object { key: String, cause: String },
}

/// What readers see: the committed state.
struct State {
    revision: u64,
    objects: BTreeMap<Key, Arc<Stored>>,
    history: History,
}

struct Shared {
    state: RwLock<State>,
    revision: watch::Sender<u64>,
}

/// A queued change and whom to tell.
struct Request {
    change: Change,
    answer: oneshot::Sender<Result<Arc<Stored>, WriteError>>,
}

/// See the module.
pub(crate) struct Store {
    shared: Arc<Shared>,
    queue: Mutex<Option<mpsc::Sender<Request>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Store {
    /// Opens (or makes) the database in this file.
    ///
    /// A new one gets its name only when it is complete: redb does not read a file whose first start was cut short.
    pub(crate) fn open_file(path: &Path) -> Result<Self, OpenError> {
        let fault = |source| OpenError::File {
            path: path.display().to_string(),
            source,
        };
        if !path.try_exists().map_err(fault)? {
            let draft = path.with_extension("new");
            let file = open_private(&draft).map_err(fault)?;
            file.set_len(0).map_err(fault)?;
            drop(ObjectDatabase::from_file(file)?.load()?);
            std::fs::rename(&draft, path).map_err(fault)?;
            if let Some(folder) = path.parent() {
                std::fs::File::open(folder)
                    .and_then(|folder| folder.sync_all())
                    .map_err(fault)?;
            }
        }
        Self::start(ObjectDatabase::from_file(
            open_private(path).map_err(fault)?,
        )?)
    }

    /// Opens a database over any storage: memory, or one that loses power on demand.
    #[cfg(test)]
    pub(crate) fn open(backend: impl redb::StorageBackend) -> Result<Self, OpenError> {
        Self::start(ObjectDatabase::from_backend(backend)?)
    }

    /// Moves the last revision ahead and forgets the past, as many writes would.
    #[cfg(test)]
    pub(crate) fn forget(&self, revision: u64) {
        let mut state = self
            .shared
            .state
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        state.revision = revision;
        state.history = History::since(revision);
    }

    fn start(database: ObjectDatabase) -> Result<Self, OpenError> {
        let (revision, objects) = database.load()?;
        let shared = Arc::new(Shared {
            state: RwLock::new(State {
                revision,
                objects,
                history: History::since(revision),
            }),
            revision: watch::Sender::new(revision),
        });
        let (queue, requests) = mpsc::channel();
        let writer = std::thread::Builder::new()
            .name("syncline-store".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || writer::run(&database, &shared, &requests)
            })
            .map_err(|error| OpenError::Database(error.to_string()))?;
        Ok(Self {
            shared,
            queue: Mutex::new(Some(queue)),
            writer: Mutex::new(Some(writer)),
        })
    }

    /// Makes a change durable, then visible, then returns the object as stored (for a removal: as it was, at the removal's revision).
    pub(crate) async fn write(&self, change: Change) -> Result<Arc<Stored>, WriteError> {
        let (answer, done) = oneshot::channel();
        {
            let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(queue) = queue.as_ref() else {
                return Err(WriteError::Closed);
            };
            queue
                .send(Request { change, answer })
                .map_err(|_| WriteError::Closed)?;
        }
        done.await.map_err(|_| WriteError::Closed)?
    }

    /// The object at this key.
    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Stored>> {
        self.read().objects.get(key).cloned()
    }

    /// All objects of a resource (of one namespace, when given), in order of namespace and name, and the revision they are of.
    pub(crate) fn list(&self, resource: &str, namespace: Option<&str>) -> (u64, Vec<Arc<Stored>>) {
        let state = self.read();
        (
            state.revision,
            state.select(resource, namespace).cloned().collect(),
        )
    }

    /// The same as it was at an earlier revision.
    pub(crate) fn list_at(
        &self,
        resource: &str,
        namespace: Option<&str>,
        revision: u64,
    ) -> Result<Vec<Arc<Stored>>, Expired> {
        let state = self.read();
        let mut objects: BTreeMap<Key, Arc<Stored>> = state
            .select(resource, namespace)
            .map(|stored| (stored.key.clone(), Arc::clone(stored)))
            .collect();
        for event in state.history.after(revision)?.rev() {
            if event.concerns(resource, namespace) {
                match &event.before {
                    Some(before) => objects.insert(before.key.clone(), Arc::clone(before)),
                    None => objects.remove(&event.now.key),
                };
            }
        }
        Ok(objects.into_values().collect())
    }

    /// What happened to a resource after a revision, and the revision that this reaches to.
    pub(crate) fn events_after(
        &self,
        resource: &str,
        namespace: Option<&str>,
        revision: u64,
    ) -> Result<(u64, Vec<Arc<Event>>), Expired> {
        let state = self.read();
        let events = state
            .history
            .after(revision)?
            .filter(|event| event.concerns(resource, namespace))
            .cloned()
            .collect();
        Ok((state.revision, events))
    }

    /// The last revision committed.
    pub(crate) fn revision(&self) -> u64 {
        self.read().revision
    }

    /// Tells of every new revision.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.shared.revision.subscribe()
    }

    /// Takes no more writes, finishes those it took, and closes the database.
    pub(crate) fn close(&self) {
        drop(
            self.queue
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let writer = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(writer) = writer
            && writer.join().is_err()
        {
            tracing::error!("the store's writer ended with a panic; what it acknowledged is safe");
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.shared
            .state
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens or makes a file that only this user can read.
fn open_private(path: &Path) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

impl State {
    fn select<'a>(
        &'a self,
        resource: &'a str,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Arc<Stored>> {
        let first = Key {
            resource: resource.to_owned(),
            namespace: namespace.unwrap_or_default().to_owned(),
            name: String::new(),
        };
        self.objects
            .range(first..)
            .take_while(move |(key, _)| {
                key.resource == resource
                    && namespace.is_none_or(|namespace| key.namespace == namespace)
            })
            .map(|(_, stored)| stored)
    }
}
