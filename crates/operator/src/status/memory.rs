//! What is remembered between looks although `VolSync`'s definitions of the two kinds have no field for it.
//!
//! Under our definitions these are fields of the status. Where `VolSync`'s are installed the API server prunes them, and
//! without them a failed run would be repeated without a pause, and a source that lost everything would be taken for one
//! that was always empty. The answer to a write tells that something was pruned; from then on they are kept in an
//! annotation of the resource itself, the one object that is always there and that outlives both operators.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use syncline_api::status::Retry;

use super::{RcloneState, State, difference};

/// Annotation of either kind: the part of the status that its definition has no place for, as JSON.
pub const MEMORY: &str = "syncline.dev/status";

/// What is remembered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// Failures in a row, why the last of them was one, and the next attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Entries of the source at its last successful run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_synced_entries: Option<i64>,
    /// The allowance for an empty source that was used up last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_empty_source: Option<String>,
    /// All that is kept of rclone, whose part of the status is ours as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rclone: Option<RcloneState>,
}

/// How a status is to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Writing {
    /// The new value of [`MEMORY`]; written first, so that a crash in between forgets nothing.
    pub memory: Option<Value>,
    /// The merge patch of the status.
    pub status: Option<Value>,
}

impl Memory {
    /// What of a status would be pruned.
    pub fn of(state: &State) -> Self {
        let rsync = state.rsync.as_ref();
        Self {
            retry: state.retry.clone(),
            last_synced_entries: rsync.and_then(|rsync| rsync.last_synced_entries),
            allowed_empty_source: rsync.and_then(|rsync| rsync.allowed_empty_source.clone()),
            rclone: state.rclone.clone(),
        }
    }

    /// Reads the annotation. One that somebody spoilt says nothing.
    pub fn read(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    /// Adds what the status itself does not say.
    pub fn fill(self, state: &mut State) {
        state.retry = state.retry.take().or(self.retry);
        state.rclone = state.rclone.take().or(self.rclone);
        if self.last_synced_entries.is_some() || self.allowed_empty_source.is_some() {
            let rsync = state.rsync.get_or_insert_default();
            rsync.last_synced_entries = rsync.last_synced_entries.or(self.last_synced_entries);
            rsync.allowed_empty_source = rsync
                .allowed_empty_source
                .take()
                .or(self.allowed_empty_source);
        }
    }

    fn text(&self) -> Value {
        json!(serde_json::to_string(self).unwrap_or_default())
    }
}

/// How to take a status from `old` to `new`, both as JSON; `None` when there is nothing to change. `kept` is the value of
/// [`MEMORY`], if the resource has it: then what would be pruned anyway is no reason to write.
pub fn writing(old: &Value, new: &Value, state: &State, kept: Option<&str>) -> Option<Writing> {
    let whole = difference(old, new);
    let Some(kept) = kept else {
        return whole.map(|status| Writing {
            memory: None,
            status: Some(status),
        });
    };
    let wanted = Memory::of(state);
    let memory = (Memory::read(kept) != wanted).then(|| wanted.text());
    let status = difference(&pruned(old), &pruned(new)).and(whole);
    (memory.is_some() || status.is_some()).then_some(Writing { memory, status })
}

/// The value that [`MEMORY`] needs after a status was written as `state` and the server kept `found` of it; `None` when it
/// is right as it is, null when there is no need for it any more.
pub fn correction(state: &State, found: &State, kept: Option<&str>) -> Option<Value> {
    let wanted = Memory::of(state);
    let lost =
        Memory::of(found) != wanted || (state.progress.is_some() && found.progress.is_none());
    match (lost, kept) {
        (true, None) => Some(wanted.text()),
        (false, Some(_)) if wanted != Memory::default() => Some(Value::Null),
        _ => None,
    }
}

/// A status as `VolSync`'s definitions would keep it.
fn pruned(status: &Value) -> Value {
    let mut status = status.clone();
    if let Some(fields) = status.as_object_mut() {
        fields.remove("progress");
        fields.remove("retry");
        fields.remove("rclone");
    }
    if let Some(rsync) = status.get_mut("rsync").and_then(Value::as_object_mut) {
        rsync.remove("lastSyncedEntries");
        rsync.remove("allowedEmptySource");
    }
    status
}

#[cfg(test)]
mod tests {
    use syncline_api::status::Progress;

    use super::*;
    use crate::status::RsyncState;

    fn state(entries: Option<i64>, failures: Option<i32>) -> State {
        State {
            retry: failures.map(|failures| Retry {
                failures: Some(failures),
                cause: Some("no answer".to_owned()),
                next_attempt: None,
            }),
            rsync: Some(RsyncState {
                address: Some("10.0.0.1".to_owned()),
                last_synced_entries: entries,
                ..RsyncState::default()
            }),
            ..State::default()
        }
    }

    #[test]
    fn what_is_remembered_fills_what_the_status_does_not_say() {
        let text = Memory::of(&state(Some(7), Some(2))).text();
        let mut read = state(None, None);
        Memory::read(text.as_str().unwrap()).fill(&mut read);
        assert_eq!(read, state(Some(7), Some(2)));
        let mut newer = state(Some(9), None);
        Memory::read(text.as_str().unwrap()).fill(&mut newer);
        assert_eq!(newer, state(Some(9), Some(2)));
    }

    #[test]
    fn a_spoilt_memory_says_nothing() {
        assert_eq!(Memory::read("{"), Memory::default());
    }

    #[test]
    fn what_would_be_pruned_is_no_reason_to_write_once_it_is_kept_elsewhere() {
        let (old, new) = (
            json!({"rsync": {"address": "a"}}),
            json!({"rsync": {"address": "a", "lastSyncedEntries": 7}, "progress": {}}),
        );
        let wanted = state(Some(7), None);
        assert!(writing(&old, &new, &wanted, None).is_some());
        let kept = Memory::of(&wanted).text();
        assert_eq!(writing(&old, &new, &wanted, kept.as_str()), None);
        let change = writing(&old, &new, &wanted, Some("{}")).unwrap();
        assert_eq!((change.memory, change.status), (Some(kept), None));
    }

    #[test]
    fn all_that_rclone_notes_is_kept_where_the_definitions_have_no_field_for_it() {
        let rclone = RcloneState {
            took_over: Some("u".to_owned()),
            blind: Some(true),
            generation: Some("17-a".to_owned()),
            volume: Some("1234".to_owned()),
            last_synced_entries: Some(7),
            allowed_empty_source: Some("yes".to_owned()),
            runs_since_full_check: Some(3),
            tried_with: Some("1/".to_owned()),
        };
        let wanted = State {
            rclone: Some(rclone),
            ..State::default()
        };
        let text = correction(&wanted, &State::default(), None).unwrap();
        let mut read = State::default();
        Memory::read(text.as_str().unwrap()).fill(&mut read);
        assert_eq!(read, wanted);
        let (old, new) = (json!({}), json!({"rclone": {"generation": "17-a"}}));
        assert_eq!(writing(&old, &new, &wanted, text.as_str()), None);
    }

    #[test]
    fn pruning_is_noticed_by_the_answer_and_so_is_its_end() {
        let wanted = state(Some(7), None);
        let text = Memory::of(&wanted).text();
        assert_eq!(correction(&wanted, &state(None, None), None), Some(text));
        assert_eq!(correction(&wanted, &state(None, None), Some("{}")), None);
        assert_eq!(correction(&wanted, &wanted, Some("{}")), Some(Value::Null));
        assert_eq!(correction(&wanted, &wanted, None), None);
        let moving = State {
            progress: Some(Progress::default()),
            ..state(None, None)
        };
        assert_eq!(
            correction(&moving, &state(None, None), None),
            Some(json!("{}"))
        );
    }
}
