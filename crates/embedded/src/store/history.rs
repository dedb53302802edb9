//! The recent past: a bounded list of changes, from which watches and paged lists are answered.

use std::{collections::VecDeque, sync::Arc};

use super::Stored;

/// How many changes are remembered. A watch that is further behind starts anew (410 Gone).
const REMEMBERED: usize = 8192;

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventKind {
    Added,
    Modified,
    Deleted,
}

/// One change.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) kind: EventKind,
    /// The object afterwards; when deleted, its last state at the revision of the deletion.
    pub(crate) now: Arc<Stored>,
    pub(crate) before: Option<Arc<Stored>>,
}

impl Event {
    pub(super) fn concerns(&self, resource: &str, namespace: Option<&str>) -> bool {
        self.now.key.resource == resource
            && namespace.is_none_or(|namespace| self.now.key.namespace == namespace)
    }
}

/// The revision asked for is no longer remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: {asked} ({oldest})")]
pub(crate) struct Expired {
    pub(crate) asked: u64,
    pub(crate) oldest: u64,
}

/// Changes after `oldest`, in order.
pub(super) struct History {
    oldest: u64,
    events: VecDeque<Arc<Event>>,
}

impl History {
    /// Nothing is remembered of what came up to this revision.
    pub(super) fn since(revision: u64) -> Self {
        Self {
            oldest: revision,
            events: VecDeque::new(),
        }
    }

    pub(super) fn push(&mut self, event: Arc<Event>) {
        if self.events.len() >= REMEMBERED
            && let Some(forgotten) = self.events.pop_front()
        {
            self.oldest = forgotten.now.revision;
        }
        self.events.push_back(event);
    }

    pub(super) fn after(
        &self,
        revision: u64,
    ) -> Result<impl DoubleEndedIterator<Item = &Arc<Event>>, Expired> {
        if revision < self.oldest {
            return Err(Expired {
                asked: revision,
                oldest: self.oldest,
            });
        }
        let start = self
            .events
            .partition_point(|event| event.now.revision <= revision);
        Ok(self.events.range(start..))
    }
}
