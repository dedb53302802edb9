//! The marker beside the prefix: which version of the data is under the path, whose it is, and whether it is whole.
//!
//! A source writes `uploading` before it touches the first object and `complete` after the last one; a destination takes
//! what lies under the path for a version only while the marker says `complete` and says the same before and after.
//! Pure: reading and writing the store is others' work.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::rclone::manifest::{Seal, Source};
use crate::rclone::settings::{Owner, names_of};

/// The marker's name in the state path.
pub(crate) const MARKER: &str = "generation.json";
/// The largest marker that is read, in bytes.
pub(crate) const LARGEST_MARKER: u64 = 64 * 1024;
/// The version of markers that this program writes and reads.
const VERSION: u32 = 1;
/// How many earlier owners of a path are remembered.
const MOST_PREVIOUS: usize = 8;
/// What names of manifests begin and end with.
const MANIFEST: (&str, &str) = ("manifest-", ".zst");
/// What names of claims begin and end with.
const CLAIM: (&str, &str) = ("run-", ".json");

/// Whether the objects under the path are a version of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// Somebody is changing them, or began to and broke off.
    Uploading,
    /// They are.
    Complete,
    /// Nobody tells here any more what they are. This only says whose the path is, and where versions are told of instead.
    Retired,
}

impl From<&Owner> for Source {
    fn from(owner: &Owner) -> Self {
        Self {
            uid: owner.uid.clone(),
            namespace: owner.namespace.clone(),
            name: owner.name.clone(),
            cluster: owner.cluster.clone(),
        }
    }
}

/// A source in words.
pub(crate) fn described(source: &Source) -> String {
    format!("ReplicationSource {}/{}", source.namespace, source.name)
}

/// A manifest as it lies in the state path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stored {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) seal: Seal,
}

/// The marker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Marker {
    version: u32,
    pub(crate) state: State,
    /// The version's number; the coming one while it is uploaded.
    pub(crate) generation: u64,
    /// Made once for a path, so that the numbers of two histories are never taken for each other.
    pub(crate) lineage: String,
    /// The run of the source that wrote this; of two that overlap only one finds its own here.
    pub(crate) run: String,
    pub(crate) source: Source,
    /// Uids that the path was taken over from, the newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    previous_sources: Vec<String>,
    /// What a complete version consists of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) manifest: Option<Stored>,
    /// While uploading: the manifest of the version before, which still tells what the store held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) base: Option<Stored>,
    /// What a listing of the path showed at the end, as [`super::listing`] sums it up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) listing: Option<String>,
    /// What the store tells of `permissions.facl`, as [`super::listing`] has it. VolSync's source writes that file at the end
    /// of each of its runs, whatever else it writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) permissions: Option<String>,
    /// The newest generation in which files may have been sent that nobody knew of: whoever saw only earlier ones
    /// cannot tell by a manifest which of its files are still right.
    #[serde(default)]
    pub(crate) doubt: u64,
    #[serde(default)]
    pub(crate) entries: u64,
    #[serde(default)]
    pub(crate) files: u64,
    #[serde(default)]
    pub(crate) bytes: u64,
    /// When this state began, by the source's clock. For people.
    pub(crate) since: String,
    /// When the source last showed that it is at work, by its clock. Others look only whether it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) alive: Option<String>,
    /// The path that this tells of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
    /// Once this is retired: the folder where versions of the path are told of instead, if any is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) notes: Option<String>,
}

/// Why a file is no marker.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("it is not a generation marker: {0}")]
    Foreign(serde_json::Error),
    #[error("it names a manifest as Syncline names none")]
    OddManifest,
    #[error("it has version {0}, and this mover reads version {VERSION}")]
    Newer(u32),
}

/// Whose the path is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// This source's.
    Own,
    /// That of a source of the same name, in whose place this one came.
    Inherited,
    /// This source's once, until another took it over.
    TakenOver,
    /// That of a source of the same name in another cluster.
    Elsewhere,
    /// Another source's.
    Others,
}

/// What a run leaves in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    /// What a listing showed at the end.
    pub(crate) listing: String,
    /// What it showed of the permissions.
    pub(crate) permissions: Option<String>,
    /// Files were sent that nobody knew to have changed.
    pub(crate) surprises: bool,
    pub(crate) entries: u64,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

impl Marker {
    /// Reads a marker.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Unreadable> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let versioned: Versioned = serde_json::from_slice(bytes).map_err(Unreadable::Foreign)?;
        if versioned.version != VERSION {
            return Err(Unreadable::Newer(versioned.version));
        }
        let marker: Self = serde_json::from_slice(bytes).map_err(Unreadable::Foreign)?;
        let named = [&marker.manifest, &marker.base];
        if named
            .iter()
            .copied()
            .flatten()
            .all(|stored| is_manifest(&stored.name))
        {
            Ok(marker)
        } else {
            Err(Unreadable::OddManifest)
        }
    }

    /// As it is written.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }

    /// Announces the version after `before` (the first one where there is none), by the run `run` of `source`.
    pub(crate) fn announcing(
        before: Option<&Self>,
        source: &Source,
        run: &str,
        now: Timestamp,
    ) -> Self {
        let mut previous = before.map_or_else(Vec::new, |before| before.previous_sources.clone());
        if let Some(before) = before.filter(|before| before.source.uid != source.uid) {
            previous.push(before.source.uid.clone());
        }
        previous.retain(|uid| *uid != source.uid);
        let surplus = previous.len().saturating_sub(MOST_PREVIOUS);
        previous.drain(..surplus);
        Self {
            version: VERSION,
            state: State::Uploading,
            // Numbers of versions that never came to be are not used again: their manifests may lie about.
            generation: before
                .map_or(0, |before| before.generation)
                .saturating_add(1),
            lineage: before.map_or_else(
                || run.get(..8).unwrap_or(run).to_owned(),
                |before| before.lineage.clone(),
            ),
            run: run.to_owned(),
            source: source.clone(),
            previous_sources: previous,
            manifest: None,
            base: before.and_then(Self::last_manifest).cloned(),
            listing: None,
            permissions: None,
            doubt: before.map_or(0, |before| before.doubt),
            entries: before.map_or(0, |before| before.entries),
            files: before.map_or(0, |before| before.files),
            bytes: before.map_or(0, |before| before.bytes),
            since: now.to_string(),
            alive: None,
            path: None,
            notes: None,
        }
    }

    /// The same, and whoever had the path as `former`, in another place, tells, had it before.
    pub(crate) fn following(mut self, former: &Self) -> Self {
        let mut previous = former.previous_sources.clone();
        previous.push(former.source.uid.clone());
        previous.retain(|uid| *uid != self.source.uid && !self.previous_sources.contains(uid));
        previous.append(&mut self.previous_sources);
        let surplus = previous.len().saturating_sub(MOST_PREVIOUS);
        previous.drain(..surplus);
        self.previous_sources = previous;
        self
    }

    /// The same, but that no version is told of here any more. `notes` is the folder where they are.
    pub(crate) fn retired(self, notes: Option<&str>) -> Self {
        Self {
            state: State::Retired,
            base: None,
            entries: 0,
            files: 0,
            bytes: 0,
            notes: notes.map(str::to_owned),
            ..self
        }
    }

    /// Does this say, in the words of `source`, that versions are told of at `notes`?
    pub(crate) fn is_retired_by(&self, source: &Source, notes: Option<&str>) -> bool {
        self.state == State::Retired
            && self.standing(source) == Standing::Own
            && self.notes.as_deref() == notes
    }

    /// The same, but that nobody knows any more whether what is there is whole.
    pub(crate) fn unsure(&self) -> Self {
        let this = self.clone();
        match this.state {
            State::Complete => Self {
                state: State::Uploading,
                base: self.last_manifest().cloned(),
                manifest: None,
                listing: None,
                permissions: None,
                ..this
            },
            State::Uploading | State::Retired => this,
        }
    }

    /// The same for this path.
    pub(crate) fn of_path(self, path: &str) -> Self {
        Self {
            path: Some(path.trim_end_matches('/').to_owned()),
            ..self
        }
    }

    /// Does this tell of another path than `path`, as when both have one place for what is noted of them?
    pub(crate) fn is_of_other_path(&self, path: &str) -> bool {
        let told = self.path.as_deref();
        told.is_some_and(|told| names_of(told) != names_of(path))
    }

    /// The same of a marker beside `path`, whose source may have come another way there, by a longer path perhaps.
    pub(crate) fn is_of_neighbour(&self, path: &str) -> bool {
        let told = self.path.as_deref();
        told.is_some_and(|told| names_of(told).last() != names_of(path).last())
    }

    /// The same, showing that the source is at work.
    pub(crate) fn alive_at(&self, now: Timestamp) -> Self {
        Self {
            alive: Some(now.to_string()),
            ..self.clone()
        }
    }

    /// The announced version has come to be.
    pub(crate) fn completed(self, manifest: Stored, left: Left, now: Timestamp) -> Self {
        Self {
            state: State::Complete,
            manifest: Some(manifest),
            base: None,
            listing: Some(left.listing),
            permissions: left.permissions,
            doubt: if left.surprises {
                self.generation
            } else {
                self.doubt
            },
            entries: left.entries,
            files: left.files,
            bytes: left.bytes,
            since: now.to_string(),
            alive: None,
            ..self
        }
    }

    /// The manifest of the last version that was complete.
    pub(crate) fn last_manifest(&self) -> Option<&Stored> {
        self.manifest.as_ref().or(self.base.as_ref())
    }

    /// Whose the path is, as seen by `source`.
    pub(crate) fn standing(&self, source: &Source) -> Standing {
        let is_namesake =
            self.source.namespace == source.namespace && self.source.name == source.name;
        if is_namesake && self.source.uid == source.uid {
            Standing::Own
        } else if self.previous_sources.contains(&source.uid) {
            Standing::TakenOver
        } else if !is_namesake {
            Standing::Others
        } else if are_known_apart(&self.source.cluster, &source.cluster) {
            Standing::Elsewhere
        } else {
            Standing::Inherited
        }
    }

    /// The version in one word, for reports and status.
    pub(crate) fn label(&self) -> String {
        format!("{}-{}", self.generation, self.lineage)
    }

    /// The number in `label`, if it is one of this path's history and not of one that began later or elsewhere.
    pub(crate) fn number_of(&self, label: &str) -> Option<u64> {
        let (number, lineage) = label.split_once('-')?;
        let number = number.parse().ok()?;
        (lineage == self.lineage && number <= self.generation).then_some(number)
    }

    /// Does `other` tell of the same version, whole or not?
    pub(crate) fn is_same_version(&self, other: &Self) -> bool {
        self.state == other.state
            && self.generation == other.generation
            && self.lineage == other.lineage
            && self.run == other.run
    }
}

/// Are these two clusters, and not one of which something is unknown?
pub(crate) fn are_known_apart(one: &str, other: &str) -> bool {
    !one.is_empty() && !other.is_empty() && one != other
}

/// The name of a generation's manifest.
pub(crate) fn manifest_name(generation: u64) -> String {
    format!("{}{generation}{}", MANIFEST.0, MANIFEST.1)
}

/// The name of the manifest of the version that `label` names, as [`Marker::label`] makes them.
pub(crate) fn manifest_of(label: &str) -> Option<String> {
    let (number, _) = label.split_once('-')?;
    Some(manifest_name(number.parse().ok()?))
}

/// Is `name` that of a manifest?
pub(crate) fn is_manifest(name: &str) -> bool {
    let number = name
        .strip_prefix(MANIFEST.0)
        .and_then(|rest| rest.strip_suffix(MANIFEST.1));
    let number = number.and_then(|number| number.parse::<u64>().ok());
    // In the one spelling that is ours: other files are other people's.
    number.is_some_and(|number| manifest_name(number) == name)
}

/// The name of the claim of the run `run`.
pub(crate) fn claim_name(run: &str) -> String {
    format!("{}{run}{}", CLAIM.0, CLAIM.1)
}

/// Is `name` that of a claim? Runs are named by 32 digits (a UUID): other files are other people's.
pub(crate) fn is_claim(name: &str) -> bool {
    let run = name
        .strip_prefix(CLAIM.0)
        .and_then(|rest| rest.strip_suffix(CLAIM.1));
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    run.is_some_and(|run| run.len() == 32 && run.bytes().all(is_digit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seal() -> Seal {
        Seal {
            size: 1,
            blake3: "00".to_owned(),
        }
    }

    fn holder(uid: &str, name: &str) -> Source {
        Source {
            uid: uid.to_owned(),
            namespace: "n".to_owned(),
            name: name.to_owned(),
            cluster: String::new(),
        }
    }

    fn announcing(before: Option<&Marker>, uid: &str, run: &str) -> Marker {
        Marker::announcing(before, &holder(uid, "a"), run, Timestamp::UNIX_EPOCH)
    }

    fn completed(marker: Marker) -> Marker {
        let manifest = Stored {
            name: manifest_name(marker.generation),
            seal: seal(),
        };
        marker.completed(manifest, Left::default(), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_marker_survives_writing_and_reading() {
        let first = completed(announcing(None, "u1", "0123456789"));
        assert_eq!(Marker::parse(&first.to_bytes()).unwrap(), first);
        assert_eq!(first.label(), "1-01234567");
        let second = announcing(Some(&first), "u1", "r2");
        assert_eq!(Marker::parse(&second.to_bytes()).unwrap(), second);
        assert_eq!(second.last_manifest(), first.manifest.as_ref());
        assert_eq!(second.label(), "2-01234567");
    }

    #[test]
    fn a_version_that_broke_off_gives_its_number_to_no_other_and_keeps_what_was_known() {
        let first = completed(announcing(None, "u1", "r1r1r1r1"));
        let broken = announcing(Some(&first), "u1", "r2");
        let next = announcing(Some(&broken), "u1", "r3");
        assert_eq!(next.generation, 3);
        assert_eq!(next.base, first.manifest);
    }

    #[test]
    fn a_namesake_takes_over_and_the_one_before_notices() {
        let first = completed(announcing(None, "u1", "r1r1r1r1"));
        assert_eq!(first.standing(&holder("u1", "a")), Standing::Own);
        assert_eq!(first.standing(&holder("u2", "a")), Standing::Inherited);
        assert_eq!(first.standing(&holder("u1", "b")), Standing::Others);
        let taken = announcing(Some(&first), "u2", "r2");
        assert_eq!(taken.standing(&holder("u1", "a")), Standing::TakenOver);
        let by_another = Marker::announcing(
            Some(&first),
            &holder("u2", "b"),
            "r2",
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(by_another.standing(&holder("u1", "a")), Standing::TakenOver);
        // A source of that name in another cluster is another one, made anew or not.
        let of = |cluster: &str, uid| Source {
            cluster: cluster.to_owned(),
            ..holder(uid, "a")
        };
        let here = Marker::announcing(None, &of("here", "u1"), "r1", Timestamp::UNIX_EPOCH);
        assert_eq!(here.standing(&of("here", "u2")), Standing::Inherited);
        assert_eq!(here.standing(&of("there", "u2")), Standing::Elsewhere);
        assert_eq!(here.standing(&of("", "u2")), Standing::Inherited);
        assert_eq!(taken.standing(&holder("u2", "a")), Standing::Own);
        let many = (0..20).fold(taken, |marker, number| {
            announcing(Some(&marker), &format!("x{number}"), "r")
        });
        assert_eq!(many.previous_sources.len(), MOST_PREVIOUS);
        assert_eq!(many.standing(&holder("x18", "a")), Standing::TakenOver);
    }

    #[test]
    fn a_retired_marker_goes_on_to_keep_away_those_who_had_the_path() {
        let first = completed(announcing(None, "u1", "r1r1r1r1"));
        let moved = announcing(Some(&first), "u1", "r2").retired(Some("notes"));
        assert_eq!(Marker::parse(&moved.to_bytes()).unwrap(), moved);
        assert!(moved.is_retired_by(&holder("u1", "a"), Some("notes")));
        assert!(!moved.is_retired_by(&holder("u1", "a"), None));
        assert!(!moved.is_retired_by(&holder("u2", "a"), Some("notes")));
        assert!(!first.is_retired_by(&holder("u1", "a"), None));
        assert_eq!((moved.last_manifest(), moved.files), (None, 0));
        let by_another = announcing(Some(&first), "u2", "r2").retired(None);
        assert_eq!(by_another.standing(&holder("u1", "a")), Standing::TakenOver);
        // Who comes back begins anew.
        let back = announcing(Some(&moved), "u1", "r3");
        assert_eq!((back.generation, back.base, back.notes), (3, None, None));
        // In the new place, too.
        let elsewhere = announcing(None, "u2", "r4").following(&by_another);
        assert_eq!(elsewhere.standing(&holder("u1", "a")), Standing::TakenOver);
        assert_eq!(elsewhere.standing(&holder("u2", "a")), Standing::Own);
    }

    #[test]
    fn what_may_have_changed_since_it_was_read_is_no_version_any_more() {
        let first = completed(announcing(None, "u1", "r1r1r1r1"));
        let unsure = first.unsure();
        assert_eq!(unsure.state, State::Uploading);
        assert_eq!(unsure.last_manifest(), first.manifest.as_ref());
        assert_eq!(unsure.standing(&holder("u1", "a")), Standing::Own);
        assert_eq!(unsure.unsure(), unsure);
    }

    #[test]
    fn a_path_is_known_in_every_spelling_and_beside_it_by_its_last_name() {
        let marker = announcing(None, "u1", "r1").of_path("home/u/db/");
        for same in ["home/u/db", "/home/u/db", "./home//u/db/"] {
            assert!(!marker.is_of_other_path(same), "{same}");
        }
        assert!(marker.is_of_other_path("db") && !marker.is_of_neighbour("/x/db/"));
        assert!(marker.is_of_neighbour("home/u/db-x"));
        let silent = announcing(None, "u1", "r1");
        assert!(!silent.is_of_other_path("x") && !silent.is_of_neighbour("x"));
    }

    #[test]
    fn a_label_counts_in_its_own_history_only() {
        let first = completed(announcing(None, "u1", "r1r1r1r1"));
        assert_eq!(first.number_of("1-r1r1r1r1"), Some(1));
        for foreign in ["1-other", "2-r1r1r1r1", "listing:00", "", "x-r1r1r1r1"] {
            assert_eq!(first.number_of(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn what_is_no_marker_of_this_version_is_told_apart() {
        assert!(matches!(Marker::parse(b"{"), Err(Unreadable::Foreign(_))));
        assert!(matches!(
            Marker::parse(b"{\"version\":2,\"x\":1}"),
            Err(Unreadable::Newer(2))
        ));
        let mut marker = completed(announcing(None, "u1", "r1r1r1r1"));
        marker.manifest = Some(Stored {
            name: "../../etc/passwd".to_owned(),
            seal: seal(),
        });
        assert!(matches!(
            Marker::parse(&marker.to_bytes()),
            Err(Unreadable::OddManifest)
        ));
    }

    #[test]
    fn names_in_the_state_path_are_told_apart() {
        assert!(is_manifest(&manifest_name(7)) && !is_manifest("manifest-x.zst"));
        assert!(is_claim(&claim_name(&"0123456789abcdef".repeat(2))) && !is_claim(MARKER));
        assert!(!is_manifest(MARKER) && !is_claim(&manifest_name(7)));
        assert_eq!(manifest_of("7-01234567"), Some(manifest_name(7)));
        assert_eq!(manifest_of("listing:0123-4"), None);
    }

    #[test]
    fn what_only_looks_like_a_claim_or_a_manifest_is_somebody_elses() {
        for name in [
            "run-2026/result.json",
            "run-20260101.json",
            "run-.json",
            "run-x.json",
            "run-AB.json",
            "a/run-0.json",
        ] {
            assert!(!is_claim(name), "{name}");
        }
        for name in [
            "manifest-.zst",
            "manifest-+7.zst",
            "manifest-07.zst",
            "old/manifest-7.zst",
        ] {
            assert!(!is_manifest(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let _ = Marker::parse(&bytes);
        }
    }
}
