//! Misbehaviour on request. Tests write the faults as JSON, the driver reads them anew at each call.
//!
//! `--faults FILE` names a file with one rule or a list of rules; the `*.json` files in the folder `FILE.d` are such files
//! too, so that tests that run at the same time need not know each other. Write under another name and rename, so that no
//! half-written file is read. A file that is not there holds no rules; one that cannot be understood fails every call.
//!
//! A rule holds for all objects, or, with `match`, for those of one namespace and those whose names start with that
//! text (the claim's, snapshot's, or the driver's own id such as `pvc-…`). All of the following may stand in one rule:
//!
//! | JSON | what happens |
//! | --- | --- |
//! | `"snapshot": {"neverReady": true}` | snapshots stay `ready_to_use: false` until the rule goes |
//! | `"snapshot": {"delayMs": 5000}` | snapshots are not ready before they are that old |
//! | `"snapshot": {"refuse": true}` | `CreateSnapshot` answers `FAILED_PRECONDITION` |
//! | `"clone": {"refuse": true}` | `CreateVolume` from a volume answers `FAILED_PRECONDITION` |
//! | `"restore": {"refuse": true}` | `CreateVolume` from a snapshot does |
//! | `"create": {"noSpace": true}` | `CreateVolume` answers `RESOURCE_EXHAUSTED` |
//! | `"fail": {"call": "CreateSnapshot", "code": "Internal", "message": "…", "times": 3}` | that call fails so often, always without `times`; `code` is a gRPC code's name |
//! | `"delay": {"call": "CreateVolume", "delayMs": 2000}` | that call waits before it does its work |
//! | `"hang": {"call": "NodePublishVolume"}` | that call waits until the rule goes or the caller gives up |
//!
//! How often a rule has failed a call is forgotten when its file is written anew or the driver starts again.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tonic::{Code, Status};

use crate::error::Fault;
use crate::records::Owner;

/// How often a hanging call looks whether its rule is gone.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Rule {
    r#match: Option<String>,
    snapshot: SnapshotRule,
    clone: Refusal,
    restore: Refusal,
    create: CreateRule,
    fail: Option<Failure>,
    delay: Option<Delay>,
    hang: Option<Hang>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct SnapshotRule {
    never_ready: bool,
    delay_ms: u64,
    refuse: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Refusal {
    refuse: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct CreateRule {
    no_space: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Failure {
    call: String,
    code: String,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    times: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Delay {
    call: String,
    delay_ms: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Hang {
    call: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Document {
    Many(Vec<Rule>),
    One(Box<Rule>),
}

/// A rule by its file as written that time, and its place in it.
type RuleKey = (PathBuf, u64, i64, i64, usize);

/// What a call is about: its object's names, of which a rule may choose.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subject {
    pub(crate) owner: Owner,
    pub(crate) id: String,
}

/// What the rules say about one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Effects {
    pub(crate) refuse: Refused,
    pub(crate) no_space: bool,
    /// `None` for never.
    ready_after: Option<Duration>,
}

/// What is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) snapshot: bool,
    pub(crate) clone: bool,
    pub(crate) restore: bool,
}

impl Effects {
    /// Whether a snapshot of that age is ready.
    pub(crate) fn is_ready(&self, age: Duration) -> bool {
        self.ready_after.is_some_and(|least| age >= least)
    }
}

/// The faults of one file and the folder beside it.
#[derive(Default)]
pub(crate) struct Faults {
    path: Option<PathBuf>,
    fired: Mutex<HashMap<RuleKey, u64>>,
}

impl Faults {
    pub(crate) fn new(path: Option<PathBuf>) -> Self {
        Self {
            path,
            fired: Mutex::default(),
        }
    }

    /// Waits and fails as the rules say, else gives what they say about this object.
    pub(crate) async fn meet(&self, call: &str, subject: &Subject) -> Result<Effects, Fault> {
        let rules = self.rules_for(subject)?;
        let pause: u64 = rules
            .iter()
            .filter_map(|(_, rule)| rule.delay.as_ref())
            .filter(|delay| delay.call == call)
            .map(|delay| delay.delay_ms)
            .sum();
        if pause > 0 {
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        loop {
            let rules = self.rules_for(subject)?;
            let hangs = |rule: &Rule| matches!(&rule.hang, Some(hang) if hang.call == call);
            if !rules.iter().any(|(_, rule)| hangs(rule)) {
                self.fail(call, &rules)?;
                return Ok(effects(&rules));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// What the rules say about this object, whatever they say about calls.
    pub(crate) fn effects(&self, subject: &Subject) -> Result<Effects, Fault> {
        Ok(effects(&self.rules_for(subject)?))
    }

    fn fail(&self, call: &str, rules: &[(RuleKey, Rule)]) -> Result<(), Fault> {
        for (key, rule) in rules {
            let Some(failure) = rule.fail.as_ref().filter(|failure| failure.call == call) else {
                continue;
            };
            let mut fired = self.fired.lock().unwrap_or_else(PoisonError::into_inner);
            let count = fired.entry(key.clone()).or_default();
            if failure.times.is_none_or(|times| *count < times) {
                *count += 1;
                let message = failure.message.clone();
                let message = message.unwrap_or_else(|| format!("{call} fails on request"));
                return Err(Fault::Injected(Status::new(code(&failure.code)?, message)));
            }
        }
        Ok(())
    }

    fn rules_for(&self, subject: &Subject) -> Result<Vec<(RuleKey, Rule)>, Fault> {
        let mut rules = self.rules()?;
        rules.retain(|(_, rule)| concerns(rule, subject));
        Ok(rules)
    }

    fn rules(&self) -> Result<Vec<(RuleKey, Rule)>, Fault> {
        let Some(path) = &self.path else {
            return Ok(Vec::new());
        };
        let mut folder = path.clone().into_os_string();
        folder.push(".d");
        let folder = PathBuf::from(folder);
        let mut files = vec![path.clone()];
        match fs::read_dir(&folder) {
            Ok(entries) => files.extend(
                entries
                    .filter_map(Result::ok)
                    .map(|entry| entry.path())
                    .filter(|file| file.extension().is_some_and(|ending| ending == "json")),
            ),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Fault::system("list", &folder, error)),
        }
        files.sort_unstable();
        let mut rules = Vec::new();
        for file in files {
            rules.extend(read(&file)?);
        }
        Ok(rules)
    }
}

fn read(path: &Path) -> Result<Vec<(RuleKey, Rule)>, Fault> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|error| Fault::system("read", path, error))?,
    };
    let (inode, seconds, nanos) = fs::metadata(path).map_or((0, 0, 0), |facts| {
        (facts.ino(), facts.mtime(), facts.mtime_nsec())
    });
    let rules = match serde_json::from_slice(&text) {
        Ok(Document::Many(rules)) => rules,
        Ok(Document::One(rule)) => vec![*rule],
        Err(error) => {
            return Err(Fault::Injected(Status::internal(format!(
                "the faults in {} cannot be understood ({error}): see the driver's faults.rs for what may stand there",
                path.display()
            ))));
        }
    };
    Ok(rules
        .into_iter()
        .enumerate()
        .map(|(place, rule)| ((path.to_owned(), inode, seconds, nanos, place), rule))
        .collect())
}

fn concerns(rule: &Rule, subject: &Subject) -> bool {
    rule.r#match.as_ref().is_none_or(|wanted| {
        subject.owner.namespace == *wanted
            || subject.owner.name.starts_with(wanted)
            || subject.id.starts_with(wanted)
    })
}

fn effects(rules: &[(RuleKey, Rule)]) -> Effects {
    let any = |says: fn(&Rule) -> bool| rules.iter().any(|(_, rule)| says(rule));
    let delay = rules.iter().map(|(_, rule)| rule.snapshot.delay_ms).max();
    Effects {
        refuse: Refused {
            snapshot: any(|rule| rule.snapshot.refuse),
            clone: any(|rule| rule.clone.refuse),
            restore: any(|rule| rule.restore.refuse),
        },
        no_space: any(|rule| rule.create.no_space),
        ready_after: (!any(|rule| rule.snapshot.never_ready))
            .then(|| Duration::from_millis(delay.unwrap_or(0))),
    }
}

/// A code by its name in any of its spellings: `ResourceExhausted`, `RESOURCE_EXHAUSTED`.
fn code(name: &str) -> Result<Code, Fault> {
    let plain = |text: &str| text.replace('_', "").to_ascii_lowercase();
    (0..=16)
        .map(Code::from_i32)
        .find(|code| plain(&format!("{code:?}")) == plain(name))
        .ok_or_else(|| {
            Fault::Injected(Status::internal(format!(
                "the faults name the code `{name}`, which is none of gRPC's: use for instance Internal"
            )))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(namespace: &str, name: &str) -> Subject {
        Subject {
            owner: Owner {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            },
            id: "pvc-1".to_owned(),
        }
    }

    /// A file of faults in a folder of its own, which must live as long as it is used.
    fn faults(text: &str) -> (Faults, PathBuf, Room) {
        let room = Room::new();
        let path = room.0.join("faults.json");
        fs::write(&path, text).unwrap();
        (Faults::new(Some(path.clone())), path, room)
    }

    struct Room(PathBuf);

    impl Room {
        fn new() -> Self {
            use std::sync::atomic::{AtomicU32, Ordering};
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let serial = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("csi-driver-faults-{}-{serial}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Room {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[tokio::test]
    async fn a_call_fails_so_often_as_asked_for_and_again_when_the_file_is_written_anew() {
        let text = r#"{"match": "one", "fail": {"call": "CreateSnapshot", "code": "RESOURCE_EXHAUSTED", "message": "full", "times": 2}}"#;
        let (faults, path, _room) = faults(text);
        let mine = subject("one", "claim");
        for _ in 0..2 {
            let status: Status = faults
                .meet("CreateSnapshot", &mine)
                .await
                .unwrap_err()
                .into();
            assert_eq!(
                (status.code(), status.message()),
                (Code::ResourceExhausted, "full")
            );
            faults.meet("CreateVolume", &mine).await.unwrap();
            let other = subject("two", "claim");
            faults.meet("CreateSnapshot", &other).await.unwrap();
        }
        faults.meet("CreateSnapshot", &mine).await.unwrap();

        let anew = path.with_extension("new");
        fs::write(&anew, text).unwrap();
        fs::rename(&anew, &path).unwrap();
        faults.meet("CreateSnapshot", &mine).await.unwrap_err();
        fs::remove_file(&path).unwrap();
        faults.meet("CreateSnapshot", &mine).await.unwrap();
    }

    #[test]
    fn rules_choose_by_namespace_or_by_the_start_of_a_name() {
        let (faults, _, _room) = faults(
            r#"[{"match": "space", "snapshot": {"neverReady": true}},
                {"match": "slow-", "snapshot": {"delayMs": 1000}},
                {"match": "pvc-1", "create": {"noSpace": true}}]"#,
        );
        let of = |namespace, name| faults.effects(&subject(namespace, name)).unwrap();
        let ages = [0, 999, 1000].map(Duration::from_millis);
        assert_eq!(ages.map(|age| of("space", "x").is_ready(age)), [false; 3]);
        assert_eq!(ages.map(|age| of("spaces", "x").is_ready(age)), [true; 3]);
        assert_eq!(
            ages.map(|age| of("other", "slow-claim").is_ready(age)),
            [false, false, true]
        );
        assert!(of("other", "x").no_space);
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_understood_fails_every_call() {
        for text in ["{", r#"{"snapshots": {}}"#, r#"{"snapshot": {"slow": 1}}"#] {
            let (faults, _, _room) = faults(text);
            let status: Status = faults
                .meet("GetCapacity", &Subject::default())
                .await
                .unwrap_err()
                .into();
            assert_eq!(status.code(), Code::Internal, "{text}");
        }
    }

    #[tokio::test]
    async fn a_hanging_call_goes_on_when_its_rule_goes_and_a_folder_holds_rules_of_many() {
        let room = Room::new();
        let folder = room.0.join("faults.json.d");
        fs::create_dir(&folder).unwrap();
        let mine = folder.join("one.json");
        fs::write(
            &mine,
            r#"{"match": "one", "hang": {"call": "CreateVolume"}}"#,
        )
        .unwrap();
        fs::write(
            folder.join("two.json"),
            r#"{"match": "one", "clone": {"refuse": true}}"#,
        )
        .unwrap();
        fs::write(folder.join("three.tmp"), "half a fi").unwrap();
        let faults = Faults::new(Some(room.0.join("faults.json")));
        let subject = subject("one", "claim");
        let hanging = faults.meet("CreateVolume", &subject);
        tokio::pin!(hanging);
        let early = tokio::time::timeout(Duration::from_millis(10), &mut hanging).await;
        assert!(early.is_err(), "it hangs");
        fs::remove_file(&mine).unwrap();
        assert!(hanging.await.unwrap().refuse.clone);
    }
}
