//! What an rclone mover is told by its environment.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use syncline_api::report::Role;
use syncline_api::{env, report};

use crate::report::Fault;

/// Full checks happen after so many runs without one, unless told otherwise.
const FULL_CHECK_EVERY: u32 = 10;
/// The longest wait between two looks at the store, unless told otherwise.
const POLL_LIMIT: Duration = Duration::from_secs(300);
/// What the name of the state's folder adds to the data's.
pub(crate) const STATE_SUFFIX: &str = "-syncline";
/// How long a run may write to the store without having seen that its path is still its own, in milliseconds.
const LEASE: u64 = 30_000;

/// Folders and files of the pod. A mover outside of a pod (a test) is told others.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// The volume.
    pub(crate) data: PathBuf,
    /// `rclone.conf`; the other keys of its Secret are files beside it.
    pub(crate) config: PathBuf,
    /// The certificates that servers are checked against, where some were given.
    pub(crate) custom_ca: Option<PathBuf>,
    /// Where temporary files may be made; in memory in a pod.
    pub(crate) scratch: PathBuf,
    /// The termination message.
    pub(crate) report: PathBuf,
}

/// The resource that this mover works for, as the marker beside the data names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// What tells its cluster from others; empty where nobody knows.
    pub(crate) cluster: String,
}

/// Where the data lies: a section of `rclone.conf` and a path in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remote {
    pub(crate) section: String,
    /// As `rcloneDestPath` has it.
    pub(crate) path: String,
    /// The folder beside the data for what is ours, without a slash at its end; `None` where no name can stand beside it.
    pub(crate) state_path: Option<String>,
}

/// A file or folder of the remote, as rclone wants it: `section:path`, folders with a slash at their end.
///
/// The slash matters: without it rclone asks a bucket store for an object of that name first, and takes a refusal of
/// that question for "is a file", so that nobody learns why the store refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spot(String);

impl fmt::Display for Spot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl AsRef<std::ffi::OsStr> for Spot {
    fn as_ref(&self) -> &std::ffi::OsStr {
        self.0.as_ref()
    }
}

impl Spot {
    /// The folder that this file lies in.
    pub(crate) fn folder(&self) -> Self {
        let trimmed = self.0.trim_end_matches('/');
        let end = trimmed
            .rfind(['/', ':'])
            .map_or(trimmed.len(), |place| place + 1);
        Self(trimmed.get(..end).unwrap_or_default().to_owned())
    }

    /// A file in this folder.
    pub(crate) fn file(&self, name: &str) -> Self {
        Self(format!("{}{name}", self.0))
    }

    /// Is it named by way of `section`?
    pub(crate) fn is_of(&self, section: &str) -> bool {
        let rest = self.0.strip_prefix(section);
        rest.is_some_and(|rest| rest.starts_with(':'))
    }

    /// The last name of the path.
    pub(crate) fn name(&self) -> &str {
        self.0
            .trim_end_matches('/')
            .rsplit(['/', ':'])
            .next()
            .unwrap_or_default()
    }
}

impl Remote {
    /// The folder that the volume's files lie in.
    pub(crate) fn data(&self) -> Spot {
        self.folder_at(&self.path)
    }

    /// Is what is ours to lie in the bucket of the data?
    pub(crate) fn shares_bucket(&self) -> bool {
        let bucket = |path: &str| {
            path.split('/')
                .find(|part| !part.is_empty())
                .map(str::to_owned)
        };
        let state = self.state_path.as_deref();
        state.is_some_and(|state| bucket(state) == bucket(&self.path))
    }

    /// A file at the root of the data.
    pub(crate) fn data_file(&self, name: &str) -> Spot {
        self.data().file(name)
    }

    /// The folder of what is ours.
    pub(crate) fn state(&self) -> Option<Spot> {
        self.state_path.as_deref().map(|path| self.folder_at(path))
    }

    /// Is the path all of a bucket, if the store has buckets? Slashes around its name mean nothing to such a store.
    pub(crate) fn is_bucket(&self) -> bool {
        names_of(&self.path).len() == 1
    }

    /// Is what is ours in a bucket of its own, beside that of the data?
    pub(crate) fn has_bucket_for_state(&self) -> bool {
        let usual = sibling(&self.path);
        let usual = usual.as_deref().map(names_of);
        self.is_bucket() && usual.is_some() && self.state_path.as_deref().map(names_of) == usual
    }

    /// The folder that would hold what is ours if nobody had told another.
    pub(crate) fn passed_by_state(&self) -> Option<Spot> {
        let usual = sibling(&self.path)?;
        let told = self.state_path.as_deref().map(in_one_spelling);
        (told != Some(in_one_spelling(&usual))).then(|| self.folder_at(&usual))
    }

    /// The folders above the data, and for each the one that would hold what is ours if it were some other's path.
    pub(crate) fn states_above(&self) -> Vec<(String, Spot)> {
        let path = self.path.trim_end_matches('/');
        let above = path.match_indices('/').map(|(at, _)| path.get(..at));
        above
            .filter_map(|path| Some((path?, sibling(path?)?)))
            .map(|(path, state)| (path.to_owned(), self.folder_at(&state)))
            .collect()
    }

    /// The same for a folder that may be some other's path itself.
    pub(crate) fn states_from_here_up(&self) -> Vec<(String, Spot)> {
        let here = sibling(&self.path).map(|state| (self.path.clone(), self.folder_at(&state)));
        here.into_iter().chain(self.states_above()).collect()
    }

    /// A file in the folder of what is ours.
    pub(crate) fn state_file(&self, name: &str) -> Option<Spot> {
        self.state().map(|folder| folder.file(name))
    }

    /// The folder at `path` of the store.
    pub(crate) fn folder_at(&self, path: &str) -> Spot {
        let section = &self.section;
        if path.is_empty() || path.ends_with('/') {
            Spot(format!("{section}:{path}"))
        } else {
            Spot(format!("{section}:{path}/"))
        }
    }
}

/// What is known of a destination's volume when a mover starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// Nothing.
    Unknown,
    /// It held this generation.
    Version(String),
    /// It goes with the run. What it holds an earlier pod of this run left there, and a crash may have torn it.
    OfThisRun,
}

/// A mover's settings.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) places: Places,
    pub(crate) role: Role,
    pub(crate) remote: Remote,
    pub(crate) owner: Owner,
    /// The uid of the source whose path this one is to take over.
    pub(crate) take_over: Option<String>,
    /// A source may write to a path although it may not see whose it is.
    pub(crate) may_be_blind: bool,
    /// Entries that the source held after its last successful run.
    pub(crate) last_entries: u64,
    /// An empty source may be sent although it was not empty before.
    pub(crate) allow_empty: bool,
    /// The generation that the destination took last.
    pub(crate) last_generation: Option<String>,
    /// What the volume of a destination held before.
    pub(crate) held: Held,
    /// Wait for another generation than the last one.
    pub(crate) poll: bool,
    /// The longest wait between two looks.
    pub(crate) poll_limit: Duration,
    /// A full check after so many runs without one; 0 for never by count.
    pub(crate) full_check_every: u32,
    pub(crate) runs_since_full_check: u32,
    /// What waits are multiples of: a second, less in tests.
    pub(crate) wait_unit: Duration,
    /// How long a run may write to the store without having seen that its path is still its own.
    pub(crate) lease: Duration,
}

/// Reads a variable; an empty one counts as absent, as Kubernetes leaves them.
type Read<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Places {
    pub(crate) fn read(read: Read<'_>) -> Self {
        let place = |name: &str, default: &str| {
            PathBuf::from(text(read, name).unwrap_or_else(|| default.to_owned()))
        };
        Self {
            data: place("SYNCLINE_DATA_DIR", "/data"),
            config: place(env::RCLONE_CONFIG, "/rclone-config/rclone.conf"),
            custom_ca: text(read, env::CUSTOM_CA).map(PathBuf::from),
            scratch: place("TMPDIR", "/tmp"),
            report: place("TERMINATION_LOG", report::TERMINATION_MESSAGE_PATH),
        }
    }
}

impl Settings {
    pub(crate) fn read(role: Role, read: Read<'_>) -> Result<Self, Fault> {
        let seconds = |name, default: Duration| {
            number(read, name, default.as_secs()).map(Duration::from_secs)
        };
        let is_set = |name| text(read, name).is_some_and(|value| value == "1");
        let wait_unit = number(read, "SYNCLINE_WAIT_UNIT_MS", 1000)?;
        Ok(Self {
            places: Places::read(read),
            role,
            remote: remote(read)?,
            owner: Owner {
                uid: text(read, env::OWNER_UID).unwrap_or_default(),
                namespace: text(read, env::OWNER_NAMESPACE).unwrap_or_default(),
                name: text(read, env::OWNER_NAME).unwrap_or_default(),
                cluster: text(read, env::OWNER_CLUSTER).unwrap_or_default(),
            },
            take_over: text(read, env::TAKE_OVER),
            may_be_blind: is_set(env::SOLE_WRITER),
            last_entries: number(read, env::LAST_SYNCED_ENTRIES, 0)?,
            allow_empty: is_set(env::ALLOW_EMPTY_SOURCE),
            held: held(read),
            last_generation: text(read, env::LAST_GENERATION),
            poll: is_set(env::POLL),
            poll_limit: seconds(env::POLL_LIMIT, POLL_LIMIT)?,
            full_check_every: number(read, env::FULL_CHECK_EVERY, FULL_CHECK_EVERY)?,
            runs_since_full_check: number(read, env::RUNS_SINCE_FULL_CHECK, 0)?,
            wait_unit: Duration::from_millis(wait_unit),
            lease: Duration::from_millis(number(read, "SYNCLINE_LEASE_MS", LEASE)?),
        })
    }
}

fn remote(read: Read<'_>) -> Result<Remote, Fault> {
    let section = text(read, env::RCLONE_CONFIG_SECTION).ok_or_else(|| {
        invalid(
            "spec.rclone.rcloneConfigSection is empty; name the section of rclone.conf".to_owned(),
        )
    })?;
    check_section(&section)?;
    let path = text(read, env::RCLONE_DEST_PATH).ok_or_else(|| {
        invalid("spec.rclone.rcloneDestPath is empty; name a bucket or a path".to_owned())
    })?;
    check_path("spec.rclone.rcloneDestPath", &path)?;
    let state_path = match text(read, env::STATE_PATH) {
        Some(told) => {
            check_path("the annotation syncline.dev/rclone-state-path", &told)?;
            let told = in_one_spelling(&told);
            if is_within(&told, &path) {
                return Err(invalid(format!(
                    "the annotation syncline.dev/rclone-state-path `{told}` leads into the data (`{path}`), where other \
                     programs would take what is ours for files of the volume; name a path beside it"
                )));
            }
            Some(told)
        }
        None => sibling(&path),
    };
    Ok(Remote {
        section,
        path,
        state_path,
    })
}

/// The path whose last name is that of `path` with our suffix.
fn sibling(path: &str) -> Option<String> {
    let path = path.trim_end_matches('/');
    let name = path.rsplit('/').next().unwrap_or_default();
    (!matches!(name, "" | "." | "..")).then(|| format!("{path}{STATE_SUFFIX}"))
}

/// The names of which `path` consists. A slash before them means nothing to a store of buckets, and much to others.
pub(crate) fn names_of(path: &str) -> Vec<&str> {
    let parts = path.split('/');
    parts.filter(|name| !matches!(*name, "" | ".")).collect()
}

/// `path` without what changes nothing about where it leads in any store.
fn in_one_spelling(path: &str) -> String {
    let root = if path_is_absolute(path) { "/" } else { "" };
    format!("{root}{}", names_of(path).join("/"))
}

/// Does `inner` lead to `outer` or beneath it, in a store of buckets or in another?
fn is_within(inner: &str, outer: &str) -> bool {
    let (inside, outside) = (names_of(inner), names_of(outer));
    let may_meet = path_is_absolute(inner) == path_is_absolute(outer) || !outside.is_empty();
    may_meet && inside.starts_with(&outside)
}

fn path_is_absolute(path: &str) -> bool {
    path.starts_with('/')
}

fn held(read: Read<'_>) -> Held {
    if text(read, env::PASSING_VOLUME).is_some_and(|value| value == "1") {
        return Held::OfThisRun;
    }
    text(read, env::LAST_GENERATION).map_or(Held::Unknown, Held::Version)
}

fn text(read: Read<'_>, name: &str) -> Option<String> {
    read(name).filter(|value| !value.is_empty())
}

fn number<N: std::str::FromStr>(read: Read<'_>, name: &str, default: N) -> Result<N, Fault> {
    match text(read, name) {
        None => Ok(default),
        Some(value) => value
            .parse()
            .map_err(|_| invalid(format!("{name} `{value}` is not a number in its range"))),
    }
}

fn invalid(message: String) -> Fault {
    Fault::new(report::reason::INVALID_SETTINGS, message)
}

/// A name that rclone cannot read as an option, a path, or a remote made up on the spot.
fn check_section(section: &str) -> Result<(), Fault> {
    let admitted = |character: char| character.is_alphanumeric() || "_-.+@ ".contains(character);
    if section.chars().all(admitted) && !section.starts_with(['-', ' ']) && !section.ends_with(' ')
    {
        Ok(())
    } else {
        Err(invalid(format!(
            "spec.rclone.rcloneConfigSection `{}` is no name of a section (letters, digits, `_`, `-`, `.`, `+`, `@`, \
             blanks; the first is neither `-` nor a blank)",
            section.escape_debug()
        )))
    }
}

fn check_path(field: &str, path: &str) -> Result<(), Fault> {
    if path.chars().any(char::is_control) {
        return Err(invalid(format!(
            "{field} `{}` has control characters; write the path without them",
            path.escape_debug()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use std::collections::BTreeMap;

    fn read(pairs: &[(&str, &str)]) -> Result<Settings, Fault> {
        let mut map = BTreeMap::from([
            (env::RCLONE_CONFIG_SECTION, "s3"),
            (env::RCLONE_DEST_PATH, "bucket/db"),
        ]);
        map.extend(pairs.iter().copied());
        Settings::read(Role::Source, &|name| {
            map.get(name).map(|value| (*value).to_owned())
        })
    }

    #[test]
    fn what_is_not_told_has_defaults() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.places.data, PathBuf::from("/data"));
        assert_eq!(
            settings.places.config,
            PathBuf::from("/rclone-config/rclone.conf")
        );
        assert_eq!(settings.places.custom_ca, None);
        assert_eq!(settings.full_check_every, 10);
        assert_eq!(settings.poll_limit, Duration::from_secs(300));
        assert!(!settings.poll && !settings.allow_empty);
    }

    #[rstest]
    #[case("bucket/db", Some("bucket/db-syncline"))]
    #[case("bucket/db/", Some("bucket/db-syncline"))]
    #[case("bucket", Some("bucket-syncline"))]
    #[case("/mnt/backup", Some("/mnt/backup-syncline"))]
    #[case("/", None)]
    #[case(".", None)]
    #[case("a/..", None)]
    fn the_state_lies_beside_the_data(#[case] path: &str, #[case] state: Option<&str>) {
        let settings = read(&[(env::RCLONE_DEST_PATH, path)]).unwrap();
        assert_eq!(settings.remote.state_path.as_deref(), state);
    }

    #[test]
    fn folders_end_in_a_slash_and_files_lie_in_them() {
        let remote = read(&[]).unwrap().remote;
        assert_eq!(remote.data().to_string(), "s3:bucket/db/");
        let file = remote.data_file("permissions.facl");
        assert_eq!(file.to_string(), "s3:bucket/db/permissions.facl");
        assert_eq!(
            (file.folder(), file.name()),
            (remote.data(), "permissions.facl")
        );
        let marker = remote.state_file("generation.json").unwrap();
        assert_eq!(marker.to_string(), "s3:bucket/db-syncline/generation.json");
        let bare = read(&[(env::RCLONE_DEST_PATH, "b/")]).unwrap().remote;
        assert_eq!(bare.data().to_string(), "s3:b/");
        assert_eq!(bare.data().folder().to_string(), "s3:");
    }

    #[test]
    fn a_state_path_that_is_told_stays_out_of_the_data() {
        let told =
            |path| read(&[(env::STATE_PATH, path)]).map(|settings| settings.remote.state_path);
        assert_eq!(
            told("other/place/").unwrap().as_deref(),
            Some("other/place")
        );
        assert_eq!(told("bucket/db2").unwrap().as_deref(), Some("bucket/db2"));
        for within in [
            "bucket/db",
            "bucket/db/",
            "bucket//db/.state",
            "./bucket/db/x",
            "/bucket/db/x",
        ] {
            assert_eq!(
                told(within).unwrap_err().reason,
                report::reason::INVALID_SETTINGS,
                "{within}"
            );
        }
    }

    #[rstest]
    #[case("bucket", None, true)]
    #[case("bucket/", None, true)]
    #[case("/bucket", None, true)]
    #[case("//bucket//", None, true)]
    #[case("/bucket", Some("bucket-syncline"), true)]
    #[case("bucket", Some("//bucket-syncline/"), true)]
    #[case("/bucket", Some("/other"), false)]
    #[case("bucket/db", None, false)]
    #[case("/bucket/db", None, false)]
    #[case("//bucket//db", None, false)]
    #[case("bucket/.", None, false)]
    #[case("/", None, false)]
    fn a_bucket_for_the_state_is_known_in_every_spelling(
        #[case] path: &str,
        #[case] told: Option<&str>,
        #[case] wanted: bool,
    ) {
        let mut pairs = vec![(env::RCLONE_DEST_PATH, path)];
        pairs.extend(told.map(|told| (env::STATE_PATH, told)));
        let remote = read(&pairs).unwrap().remote;
        assert_eq!(remote.has_bucket_for_state(), wanted);
    }

    #[rstest]
    #[case("bucket", "s3:")]
    #[case("/bucket/", "s3:/")]
    #[case("//bucket", "s3://")]
    fn the_bucket_of_the_state_is_looked_for_among_all(#[case] path: &str, #[case] all: &str) {
        let remote = read(&[(env::RCLONE_DEST_PATH, path)]).unwrap().remote;
        let state = remote.state().unwrap();
        assert_eq!(
            (state.folder().to_string().as_str(), state.name()),
            (all, "bucket-syncline")
        );
    }

    #[rstest]
    #[case("bucket/db", "bucket//./db-syncline/", None)]
    #[case("bucket//db/", "bucket/db-syncline", None)]
    #[case("/mnt/db", "//mnt/db-syncline", None)]
    #[case("bucket/db", "bucket/notes", Some("s3:bucket/db-syncline/"))]
    #[case("mnt/db", "/mnt/db-syncline", Some("s3:mnt/db-syncline/"))]
    fn the_usual_place_is_known_in_every_spelling(
        #[case] path: &str,
        #[case] told: &str,
        #[case] passed_by: Option<&str>,
    ) {
        let pairs = [(env::RCLONE_DEST_PATH, path), (env::STATE_PATH, told)];
        let found = read(&pairs).unwrap().remote.passed_by_state();
        assert_eq!(found.map(|spot| spot.to_string()).as_deref(), passed_by);
    }

    #[rstest]
    #[case(env::RCLONE_CONFIG_SECTION, "")]
    #[case(env::RCLONE_CONFIG_SECTION, "-config")]
    #[case(env::RCLONE_CONFIG_SECTION, "s3,secret_access_key=x")]
    #[case(env::RCLONE_CONFIG_SECTION, ":local")]
    #[case(env::RCLONE_CONFIG_SECTION, "a/b")]
    #[case(env::RCLONE_CONFIG_SECTION, "a\nb")]
    #[case(env::RCLONE_DEST_PATH, "")]
    #[case(env::RCLONE_DEST_PATH, "a\nb")]
    #[case(env::FULL_CHECK_EVERY, "-1")]
    #[case(env::POLL_LIMIT, "5m")]
    fn what_rclone_could_misread_is_refused(#[case] name: &str, #[case] value: &str) {
        let fault = read(&[(name, value)]).unwrap_err();
        assert_eq!(fault.reason, report::reason::INVALID_SETTINGS, "{fault:?}");
    }
}
