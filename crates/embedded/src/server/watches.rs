//! Watching: the changes of a resource as a stream.
//!
//! A watch remembers up to which revision it has told; whenever the store has a newer one it tells what lies between.
//! Whoever is too slow, or asks for what is forgotten, is told 410 and starts anew.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Server,
    answer::{self, Reply},
    dispatch::Call,
    forms,
    lists::selector,
    route::Target,
    selectors::Selector,
    status::Failure,
};
use crate::kinds::FieldError;
use crate::store::{Event, EventKind, Stored};

/// How long a watch lasts when the client does not say, in seconds.
const DEFAULT_TIMEOUT: u64 = 1800;
/// How often an idle watch that takes bookmarks is told the current revision.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How long before its end a watch is told the current revision once more.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);

/// One watch under way.
struct Watch {
    server: Arc<Server>,
    shape: answer::EventShape,
    target: Target,
    storage_name: String,
    selector: Selector,
    bookmarks: bool,
    /// Told up to here.
    revision: u64,
    ready: VecDeque<Bytes>,
    newest: tokio::sync::watch::Receiver<u64>,
    ends: Timestamp,
    deadline: BoxFuture<'static, ()>,
    next_bookmark: BoxFuture<'static, ()>,
    ended: bool,
}

impl Server {
    /// `GET …?watch=1`.
    pub(crate) fn watch_list(
        self: &Arc<Self>,
        call: &Call,
        target: &Target,
    ) -> Result<Reply, Failure> {
        let selector = selector(call, target)?;
        let from = match call.query.get("resourceVersion") {
            None | Some("0") => None,
            Some(text) => Some(
                text.parse::<u64>()
                    .map_err(|_| Failure::malformed_version(text))?,
            ),
        };
        let initial = call.query.flag("sendInitialEvents");
        check_options(call)?;
        let current = self.store.revision();
        if let Some(from) = from.filter(|from| *from > current) {
            return Err(Failure::future_version(from, current));
        }
        let seconds = call
            .query
            .number("timeoutSeconds")
            .filter(|seconds| *seconds > 0)
            .unwrap_or(DEFAULT_TIMEOUT);
        let deadline = self.now() + Duration::from_secs(seconds.min(86_400));
        let mut watch = Watch {
            server: Arc::clone(self),
            shape: answer::EventShape::of(call),
            target: target.clone(),
            storage_name: forms::storage_name(target.resource.as_ref()),
            selector,
            bookmarks: call.query.flag("allowWatchBookmarks"),
            revision: from.unwrap_or(current),
            ready: VecDeque::new(),
            newest: self.store.watch(),
            deadline: self.clock.sleep_until(deadline),
            ends: deadline,
            next_bookmark: self.clock.sleep_until(next_bookmark(self.now(), deadline)),
            ended: false,
        };
        // Without a version (or with 0), and when asked to, a watch begins with what is there.
        if initial || (from.is_none() && call.query.get("sendInitialEvents").is_none()) {
            watch.tell_all(initial);
        }
        let pieces = futures::stream::unfold(watch, |mut watch| async move {
            let piece = watch.next().await?;
            Some((piece, watch))
        });
        Ok(Reply::stream("application/json", answer::streamed(pieces)))
    }
}

/// When a watch is told the current revision: now and then, and shortly before it ends.
fn next_bookmark(now: Timestamp, ends: Timestamp) -> Timestamp {
    let regular = now + BOOKMARK_EVERY;
    let last = ends - BOOKMARK_BEFORE_END;
    if last > now {
        regular.min(last)
    } else {
        regular
    }
}

/// The rules that tie `sendInitialEvents` and `resourceVersionMatch` together.
fn check_options(call: &Call) -> Result<(), Failure> {
    let (field, message) = match (
        call.query.get("sendInitialEvents"),
        call.query.get("resourceVersionMatch"),
    ) {
        (None, None) | (Some(_), Some("NotOlderThan")) => return Ok(()),
        (None, Some(_)) => (
            "resourceVersionMatch",
            "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ),
        (Some(_), _) => (
            "resourceVersionMatch",
            "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
    };
    let error = FieldError {
        reason: "FieldValueForbidden",
        field: field.to_owned(),
        message: message.to_owned(),
    };
    Err(Failure::invalid_options("ListOptions", &[error]))
}

impl Watch {
    /// Everything there is, as additions.
    fn tell_all(&mut self, marked: bool) {
        let (revision, objects) = self
            .server
            .store
            .list(&self.storage_name, self.target.namespace.as_deref());
        for stored in objects {
            let shown = forms::shown_as(self.target.resource.as_ref(), &stored.object);
            if self.selector.matches(&shown) {
                self.tell("ADDED", shown);
            }
        }
        self.revision = revision;
        if marked && self.bookmarks {
            self.bookmark(true);
        }
    }

    /// The next piece of the stream; `None` ends it.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Some(piece);
            }
            if self.ended || self.server.stop.is_cancelled() {
                return None;
            }
            self.newest.mark_unchanged();
            self.catch_up();
            if !self.ready.is_empty() {
                continue;
            }
            let stop = self.server.stop.clone();
            tokio::select! {
                changed = self.newest.changed() => if changed.is_err() { self.ended = true },
                () = &mut self.deadline => self.ended = true,
                () = stop.cancelled() => self.ended = true,
                () = &mut self.next_bookmark => {
                    let next = next_bookmark(self.server.now(), self.ends);
                    self.next_bookmark = self.server.clock.sleep_until(next);
                    if self.bookmarks {
                        self.bookmark(false);
                    }
                }
            }
        }
    }

    /// Tells what happened since.
    fn catch_up(&mut self) {
        let found = self.server.store.events_after(
            &self.storage_name,
            self.target.namespace.as_deref(),
            self.revision,
        );
        match found {
            Ok((revision, changes)) => {
                for change in changes {
                    self.tell_change(&change);
                }
                self.revision = revision;
            }
            Err(expired) => {
                self.push(&json!({"type": "ERROR", "object": Failure::from(expired).body()}));
                self.ended = true;
            }
        }
    }

    /// One change, as the selection sees it: entering it is an addition, leaving it a deletion.
    fn tell_change(&mut self, change: &Event) {
        let resource = self.target.resource.as_ref();
        let now = forms::shown_as(resource, &change.now.object);
        let before = change
            .before
            .as_ref()
            .map(|before| forms::shown_as(resource, &before.object));
        let selected_now = change.kind != EventKind::Deleted && self.selector.matches(&now);
        let selected_before = before
            .as_ref()
            .is_some_and(|before| self.selector.matches(before));
        match (selected_before, selected_now) {
            (false, false) => {}
            (false, true) => self.tell("ADDED", now),
            (true, true) => self.tell("MODIFIED", now),
            (true, false) => self.tell("DELETED", last_selected(before, &change.now)),
        }
    }

    fn tell(&mut self, kind: &str, object: Value) {
        let object = self.shape.event(&self.server, &self.target, object);
        self.push(&json!({"type": kind, "object": object}));
    }

    fn bookmark(&mut self, ends_initial_events: bool) {
        let mut metadata = json!({"resourceVersion": self.revision.to_string()});
        if ends_initial_events && let Some(metadata) = metadata.as_object_mut() {
            metadata.insert(
                "annotations".to_owned(),
                json!({"k8s.io/initial-events-end": "true"}),
            );
        }
        let object = json!({
            "kind": self.target.resource.kind(),
            "apiVersion": forms::api_version(self.target.resource.as_ref()),
            "metadata": metadata,
        });
        let object = self.shape.bookmark(object);
        self.push(&json!({"type": "BOOKMARK", "object": object}));
    }

    fn push(&mut self, event: &Value) {
        let mut line = event.to_string();
        line.push('\n');
        self.ready.push_back(line.into());
    }
}

/// The state that the selection saw last, at the revision at which it went.
fn last_selected(before: Option<Value>, now: &Stored) -> Value {
    let mut object = before.unwrap_or_else(|| now.object.clone());
    super::metadata::set(
        &mut object,
        "resourceVersion",
        Value::from(now.revision.to_string()),
    );
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bookmarks_come_every_minute_and_before_the_end() {
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
        let of_five_minutes = |now| next_bookmark(at(now), at(300));
        assert_eq!(of_five_minutes(0), at(60));
        assert_eq!(of_five_minutes(60), at(120));
        assert_eq!(of_five_minutes(270), at(298));
        assert_eq!(of_five_minutes(298), at(358));
    }
}
