//! What the store promises.

use std::{
    io,
    sync::{Arc, Mutex},
};

use redb::StorageBackend;
use serde_json::json;

use super::*;

/// A disk that remembers all that was done to it, so that the power can fail at any moment afterwards.
#[derive(Clone, Debug, Default)]
struct Disk {
    inner: Arc<Mutex<DiskState>>,
}

#[derive(Debug, Default)]
struct DiskState {
    content: Vec<u8>,
    log: Vec<Step>,
}

#[derive(Clone, Debug)]
enum Step {
    Write(usize, Vec<u8>),
    Resize(usize),
    Sync,
}

impl Step {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write(offset, data) => {
                if content.len() < offset + data.len() {
                    content.resize(offset + data.len(), 0);
                }
                content[*offset..offset + data.len()].copy_from_slice(data);
            }
            Self::Resize(len) => content.resize(*len, 0),
            Self::Sync => {}
        }
    }
}

impl Disk {
    fn steps(&self) -> usize {
        self.inner.lock().unwrap().log.len()
    }

    /// What is found when the power failed after so many steps: all that was synced, and of the rest what `kept` says.
    fn after_power_loss(&self, steps: usize, mut kept: impl FnMut() -> bool) -> Self {
        let state = self.inner.lock().unwrap();
        let log = &state.log[..steps];
        let synced = log
            .iter()
            .rposition(|step| matches!(step, Step::Sync))
            .unwrap_or(0);
        let mut content = Vec::new();
        for (index, step) in log.iter().enumerate() {
            if index <= synced || kept() {
                step.apply(&mut content);
            }
        }
        Self {
            inner: Arc::new(Mutex::new(DiskState {
                content,
                log: Vec::new(),
            })),
        }
    }

    fn record(&self, step: Step) {
        let mut state = self.inner.lock().unwrap();
        step.apply(&mut state.content);
        state.log.push(step);
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.inner.lock().unwrap().content.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        let state = self.inner.lock().unwrap();
        let Some(found) = state.content.get(offset..offset + out.len()) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.record(Step::Resize(usize::try_from(len).unwrap()));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.record(Step::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.record(Step::Write(usize::try_from(offset).unwrap(), data.to_vec()));
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
async fn what_was_acknowledged_survives_the_loss_of_power_at_any_moment() {
    let disk = Disk::default();
    let store = Store::open(disk.clone()).unwrap();
    // After so many steps of the disk, this was acknowledged: each name's revision, `None` when removed.
    let mut acknowledged = vec![(disk.steps(), BTreeMap::new())];
    for round in 0..24 {
        let name = format!("n{}", round % 5);
        let found = store.get(&key(&name));
        let removed = found.is_some() && round % 7 == 6;
        let expect = found.map_or(Expect::Absent, |stored| Expect::Revision(stored.revision));
        let value = format!("value {round}");
        let stored = store
            .write(change(&name, expect, (!removed).then_some(value.as_str())))
            .await
            .unwrap();
        let mut known: BTreeMap<String, Option<u64>> = acknowledged.last().unwrap().1.clone();
        known.insert(name, (!removed).then_some(stored.revision));
        acknowledged.push((disk.steps(), known));
    }
    let mut chance = 1_u64;
    // The first start is not among them: a file gets its name only when that is complete.
    for steps in acknowledged[0].0..=disk.steps() {
        for luck in 0..4 {
            // None of what was not synced is kept, all of it, or some.
            let found = disk.after_power_loss(steps, || {
                chance = chance
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                luck == 1 || (luck > 1 && chance >> 63 == 1)
            });
            let found =
                Store::open(found).unwrap_or_else(|error| panic!("after {steps} steps: {error}"));
            let known = acknowledged.iter().rev().find(|(at, _)| *at <= steps);
            for (name, revision) in known.into_iter().flat_map(|(_, known)| known) {
                let present = found.get(&key(name)).map(|stored| stored.revision);
                // What was under way may have arrived or not; nothing older than what was acknowledged may come back.
                let newer = present.is_none_or(|present| Some(present) > *revision)
                    && found.revision() > revision.unwrap_or(0);
                assert!(
                    present == *revision || newer,
                    "{name} after {steps} steps: {present:?}, not {revision:?}"
                );
            }
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
    let store = Store::open(disk.after_power_loss(disk.steps(), || false)).unwrap();
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

#[tokio::test]
async fn a_first_start_that_was_cut_short_is_no_hindrance() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("cluster.new"), b"half of a").unwrap();
    let path = folder.path().join("cluster.db");
    let store = Store::open_file(&path).unwrap();
    store
        .write(change("a", Expect::Absent, Some("1")))
        .await
        .unwrap();
    drop(store);
    assert!(Store::open_file(&path).unwrap().get(&key("a")).is_some());
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
