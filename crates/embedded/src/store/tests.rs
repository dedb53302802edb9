//! What the store promises.

use std::{
    io,
    sync::{Arc, Mutex},
};

use redb::StorageBackend;
use serde_json::json;

use super::*;

/// A disk with a cache: what was not synced is gone when the power fails.
#[derive(Clone, Debug, Default)]
struct Disk {
    inner: Arc<Mutex<DiskState>>,
}

#[derive(Debug, Default)]
struct DiskState {
    cached: Vec<u8>,
    durable: Vec<u8>,
    /// Unsynced writes in order, so that a power cut may keep any prefix of them.
    unsynced: Vec<(usize, Vec<u8>)>,
}

impl Disk {
    /// What is found after the power came back, when the first `kept` unsynced writes happened to reach the disk.
    fn after_power_loss(&self, kept: usize) -> Self {
        let state = self.inner.lock().unwrap();
        let mut durable = state.durable.clone();
        for (offset, data) in state.unsynced.iter().take(kept) {
            if durable.len() < offset + data.len() {
                durable.resize(offset + data.len(), 0);
            }
            durable[*offset..offset + data.len()].copy_from_slice(data);
        }
        Self {
            inner: Arc::new(Mutex::new(DiskState {
                cached: durable.clone(),
                durable,
                unsynced: Vec::new(),
            })),
        }
    }

    fn unsynced(&self) -> usize {
        self.inner.lock().unwrap().unsynced.len()
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.inner.lock().unwrap().cached.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        let state = self.inner.lock().unwrap();
        let Some(found) = state.cached.get(offset..offset + out.len()) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).unwrap();
        let mut state = self.inner.lock().unwrap();
        state.cached.resize(len, 0);
        // A file's length is metadata that fdatasync carries; redb syncs after it grows.
        state.durable.resize(len, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.inner.lock().unwrap();
        state.durable = state.cached.clone();
        state.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        let mut state = self.inner.lock().unwrap();
        state.cached[offset..offset + data.len()].copy_from_slice(data);
        state.unsynced.push((offset, data.to_vec()));
        Ok(())
    }
}

fn key(name: &str) -> Key {
    Key::new("", "configmaps", "default", name)
}

fn change(name: &str, expect: Expect, data: Option<&str>) -> Change {
    Change {
        key: key(name),
        expect,
        object: data.map(|data| json!({"metadata": {"name": name}, "data": {"a": data}})),
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_the_loss_of_power_at_any_write() {
    let disk = Disk::default();
    let store = Store::open(disk.clone()).unwrap();
    let mut expected: Vec<(String, u64)> = Vec::new();
    for round in 0..40 {
        let name = format!("n{}", round % 7);
        let expect = store
            .get(&key(&name))
            .map_or(Expect::Absent, |stored| Expect::Revision(stored.revision));
        let stored = store
            .write(change(&name, expect, Some(&format!("value {round}"))))
            .await
            .unwrap();
        expected.retain(|(other, _)| *other != name);
        expected.push((name, stored.revision));
        for kept in 0..=disk.unsynced() {
            let found = Store::open(disk.after_power_loss(kept)).unwrap();
            for (name, revision) in &expected {
                assert_eq!(
                    found.get(&key(name)).unwrap().revision,
                    *revision,
                    "round {round}, {kept} writes kept"
                );
            }
            assert!(found.revision() >= stored.revision);
        }
    }
}

#[tokio::test]
async fn a_removed_object_stays_removed_and_revisions_go_on() {
    let disk = Disk::default();
    let store = Store::open(disk.clone()).unwrap();
    let made = store
        .write(change("a", Expect::Absent, Some("1")))
        .await
        .unwrap();
    let gone = store
        .write(change("a", Expect::Revision(made.revision), None))
        .await
        .unwrap();
    assert!(gone.revision > made.revision);
    drop(store);
    let store = Store::open(disk.after_power_loss(0)).unwrap();
    assert!(store.get(&key("a")).is_none());
    let again = store
        .write(change("a", Expect::Absent, Some("2")))
        .await
        .unwrap();
    assert!(again.revision > gone.revision);
}

#[tokio::test]
async fn a_change_is_refused_when_the_object_is_not_as_expected() {
    let store = Store::open(Disk::default()).unwrap();
    let made = store
        .write(change("a", Expect::Absent, Some("1")))
        .await
        .unwrap();
    assert!(matches!(
        store.write(change("a", Expect::Absent, Some("2"))).await,
        Err(WriteError::Exists { .. })
    ));
    let other = Expect::Revision(made.revision + 1);
    assert!(matches!(
        store.write(change("a", other, Some("2"))).await,
        Err(WriteError::Changed { .. })
    ));
    assert!(matches!(
        store.write(change("b", other, Some("2"))).await,
        Err(WriteError::Changed { .. })
    ));
}

#[tokio::test]
async fn writers_at_the_same_time_each_get_a_revision_of_their_own() {
    let store = Arc::new(Store::open(Disk::default()).unwrap());
    let writers = (0..50).map(|number| {
        let store = Arc::clone(&store);
        async move {
            store
                .write(change(&format!("n{number}"), Expect::Absent, Some("1")))
                .await
                .unwrap()
                .revision
        }
    });
    let mut revisions = futures::future::join_all(writers).await;
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(revisions.len(), 50);
    assert_eq!(store.list("/configmaps", Some("default")).1.len(), 50);
}

#[tokio::test]
async fn the_past_can_be_listed_until_it_is_forgotten() {
    let store = Store::open(Disk::default()).unwrap();
    let first = store
        .write(change("a", Expect::Absent, Some("1")))
        .await
        .unwrap();
    let second = store
        .write(change("b", Expect::Absent, Some("1")))
        .await
        .unwrap();
    store
        .write(change("a", Expect::Revision(first.revision), None))
        .await
        .unwrap();
    store
        .write(change("b", Expect::Revision(second.revision), Some("2")))
        .await
        .unwrap();
    let past = store.list_at("/configmaps", None, second.revision).unwrap();
    assert_eq!(
        past.iter()
            .map(|stored| stored.revision)
            .collect::<Vec<_>>(),
        [first.revision, second.revision]
    );
    assert!(store.list_at("/configmaps", None, 0).is_err());
    let (_, events) = store
        .events_after("/configmaps", None, second.revision)
        .unwrap();
    assert_eq!(
        events.iter().map(|event| event.kind).collect::<Vec<_>>(),
        [EventKind::Deleted, EventKind::Modified]
    );
}

#[test]
fn a_second_holder_of_a_data_folder_is_told_the_pid_of_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let held = DataLock::take(folder.path()).unwrap();
    let refused = DataLock::take(folder.path()).unwrap_err().to_string();
    assert!(
        refused.contains(&format!("process {}", std::process::id())),
        "{refused}"
    );
    drop(held);
    DataLock::take(folder.path()).unwrap();
}
