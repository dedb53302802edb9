//! The calls of rclone of which runs are made. Pure.

use std::ffi::{OsStr, OsString};

use crate::rclone::names;
use crate::rclone::program::Command;
use crate::rclone::store::Features;
use crate::rclone::tuning::{
    Load, MOST_AT_ONCE, groups, listed_at_once, tuned, with_garbage_if_small,
};
use crate::tree::Entry;

/// As many files are looked up one by one without asking whether a listing were cheaper.
const FEW: u64 = 16;
/// A request for a page of a listing shows a thousand objects and takes as long as some ten others.
const FILES_A_LOOK_UP_COSTS: u64 = 100;

/// Options of listings without what costs requests.
const BARE_LISTING: [&str; 3] = ["--files-only", "--no-modtime", "--no-mimetype"];

/// Which files of a list rclone copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// All.
    Always,
    /// All, of which some never keep still: what the store has of them shall be whole, of whatever moment.
    Restless,
    /// Those whose hash differs.
    ByHash,
    /// Those whose size or time differs.
    ByTime,
}

/// Names, each with its end, as rclone reads them from a list.
fn list<N: AsRef<[u8]>>(names: impl Iterator<Item = N>) -> Vec<u8> {
    let mut list = Vec::new();
    for name in names {
        list.extend_from_slice(name.as_ref());
        list.push(0);
    }
    list
}

/// The names as they are given to rclone: a list for the usual ones, and one for those for which it must translate nothing.
fn lists<'a>(paths: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, Vec<u8>) {
    let (raw, usual): (Vec<_>, Vec<_>) = paths.partition(|path| names::is_raw(path));
    let [usual, raw] = [usual, raw].map(|paths| list(paths.into_iter().map(names::for_list)));
    (usual, raw)
}

/// A folder of this machine whose names rclone takes as they are, quotes of its own included.
fn untranslated(folder: &OsStr) -> OsString {
    let mut place = OsString::from(":local,encoding=Raw:");
    place.push(folder);
    place
}

/// A volume and the folder of the store, and which way it goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way<'a> {
    Up { volume: &'a OsStr, store: &'a OsStr },
    Down { store: &'a OsStr, volume: &'a OsStr },
}

impl Way<'_> {
    /// From where and to where, with the volume's names as they are if `is_raw`.
    fn ends(self, is_raw: bool) -> [OsString; 2] {
        let place = |volume: &OsStr| {
            if is_raw {
                untranslated(volume)
            } else {
                volume.to_owned()
            }
        };
        match self {
            Self::Up { volume, store } => [place(volume), store.to_owned()],
            Self::Down { store, volume } => [store.to_owned(), place(volume)],
        }
    }
}

/// Copies of `files` between a volume and the store. `of` is how many files the tree has.
pub(crate) fn copies(
    files: &[&Entry],
    way: Way<'_>,
    (pass, of): (Pass, u64),
    features: Features,
) -> Vec<Command> {
    groups(files, |entry| entry.size, features)
        .iter()
        .flat_map(|files| copies_of_group(files, way, (pass, of), features))
        .collect()
}

/// Copies of files that may go side by side, as for [`copies`].
fn copies_of_group(
    files: &[&Entry],
    way: Way<'_>,
    (pass, of): (Pass, u64),
    features: Features,
) -> Vec<Command> {
    let load = Load::of(files.iter().map(|entry| entry.size));
    let is_few = is_few(load, of);
    // What is sent whatever the store holds need not be looked up. Where a name is not a key, as in stores that can hold
    // two files of one name, that would leave the old one beside the new.
    let is_all = matches!(pass, Pass::Always | Pass::Restless);
    let is_blind = is_all && features.bucket_based && matches!(way, Way::Up { .. });
    let (usual, raw) = lists(files.iter().map(|entry| entry.path.as_slice()));
    let command = |names: Vec<u8>, is_raw: bool| {
        let mut command = Command::new("copy");
        match pass {
            Pass::Always => command = command.arg("--ignore-times"),
            Pass::Restless => command = restless(command.arg("--ignore-times")),
            Pass::ByHash => command = command.tune("RCLONE_CHECKSUM", "true"),
            Pass::ByTime => {}
        }
        if is_blind {
            command = command.args(["--no-traverse", "--no-check-dest"]);
            command = with_garbage_if_small(command, load, 0);
        } else if is_few {
            command = command.arg("--no-traverse");
        } else {
            command = with_garbage_if_small(command, load, of);
        }
        if matches!(way, Way::Up { .. }) {
            // The marker's bucket or the listing showed that there is one, and keys may not be allowed to make any.
            command = command.tune("RCLONE_S3_NO_CHECK_BUCKET", "true");
            // The source itself looks whether a file changed meanwhile. One that always does stops no other.
            command = command.tune("RCLONE_LOCAL_NO_CHECK_UPDATED", "true");
        }
        command = listed_at_once(command.args(way.ends(is_raw)).names(names), of, features);
        tuned(command, load, features)
    };
    let lists = [(usual, false), (raw, true)];
    let lists = lists.into_iter().filter(|(names, _)| !names.is_empty());
    lists
        .map(|(names, is_raw)| command(names, is_raw))
        .collect()
}

/// A transfer to the store of files that may change in the middle of it.
///
/// For S3 rclone reads a file twice, for its checksum first. Of one that changed in between the checksum would not fit: the
/// store refuses it, or keeps with it the checksum of what it does not hold, and no reader would accept it ever. In parts
/// and without a checksum of the whole, each part is read once.
pub(crate) fn restless(command: Command) -> Command {
    // As options they hold whatever the Secret says.
    command.args([
        "--local-no-check-updated",
        "--s3-upload-cutoff=0",
        "--s3-disable-checksum",
    ])
}

/// Are files looked up one by one sooner than by a listing of all, `of` how many there are?
fn is_few(load: Load, of: u64) -> bool {
    load.files <= FEW || load.files.saturating_mul(FILES_A_LOOK_UP_COSTS) < of
}

/// Listings of the objects of `files` with their checksums. `of` is how many files the tree has.
pub(crate) fn checksums(
    files: &[&Entry],
    store: &OsStr,
    of: u64,
    features: Features,
) -> Vec<Command> {
    let pieces = files.chunks(MOST_AT_ONCE);
    pieces
        .map(|files| checksums_of_piece(files, store, of, features))
        .collect()
}

fn checksums_of_piece(files: &[&Entry], store: &OsStr, of: u64, features: Features) -> Command {
    let load = Load::of(files.iter().map(|entry| entry.size));
    let names = list(files.iter().map(|entry| names::for_list(&entry.path)));
    let mut command = Command::new("lsjson").args(["--recursive", "--hash"]);
    if is_few(load, of) {
        command = command.arg("--no-traverse");
    }
    command = listed_at_once(
        command.args(BARE_LISTING).arg(store).names(names),
        of,
        features,
    );
    tuned(command, load, features)
}

/// A listing of what a transfer of everything ([`whole`]) from `store` would carry.
pub(crate) fn chosen(store: &OsStr, filter: &str) -> Command {
    Command::new("lsjson")
        .choosing()
        // Else a rule about folders costs a request for each.
        .tune("RCLONE_FAST_LIST", "true")
        .arg("--recursive")
        .args(rules(filter))
        .args(BARE_LISTING)
        .arg(store)
}

/// Deletions of files that are named as in a volume.
pub(crate) fn deletions(paths: &[Vec<u8>], from: &OsStr) -> Vec<Command> {
    let listed: Vec<Vec<u8>> = paths.iter().map(|path| names::for_list(path)).collect();
    deletions_of_listed(&listed, from)
}

/// Deletions of files that are named as in a listing.
pub(crate) fn deletions_of_listed(names: &[Vec<u8>], from: &OsStr) -> Vec<Command> {
    let command = |names: &[Vec<u8>]| Command::new("delete").arg(from).names(list(names.iter()));
    names.chunks(MOST_AT_ONCE).map(command).collect()
}

/// What is ours beside the volume's files, so that no transfer of everything carries it. `filter` is a setting of the user's
/// by which rclone passes over files; ours are given in another way, so that his stay.
fn rules(filter: &str) -> [&'static str; 4] {
    if filter == "RCLONE_FILTER" {
        [
            "--exclude",
            "/lost+found/**",
            "--exclude",
            "/permissions.facl",
        ]
    } else {
        [
            "--filter",
            "- /lost+found/**",
            "--filter",
            "- /permissions.facl",
        ]
    }
}

/// A transfer of everything, as VolSync's movers call it: a `sync`, or a `copy`, which deletes nothing. `filter` is as for
/// [`rules`].
pub(crate) fn whole(
    verb: &'static str,
    (from, to): (&OsStr, &OsStr),
    filter: &str,
    features: Features,
) -> Command {
    let mut command = Command::new(verb)
        .choosing()
        .args([
            "--create-empty-src-dirs",
            "--one-file-system",
            "--skip-links",
        ])
        .args(rules(filter));
    if features.hashes {
        command = command.tune("RCLONE_CHECKSUM", "true");
    } else if !features.keeps_times {
        command = command.tune("RCLONE_IGNORE_TIMES", "true");
    }
    command.arg(from).arg(to)
}

/// The same once more, where the store has no checksums of some files: rclone took those for equal that are as large. Now it
/// goes by times.
pub(crate) fn whole_by_time(
    verb: &'static str,
    places: (&OsStr, &OsStr),
    filter: &str,
    features: Features,
) -> Command {
    let features = Features {
        hashes: false,
        ..features
    };
    // What checksums showed to be the same is not to cost a request for its time.
    whole(verb, places, filter, features).tune("RCLONE_NO_UPDATE_MODTIME", "true")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Kind;
    use crate::tree::tests::entry;

    fn file(path: &str) -> Entry {
        entry(path, Kind::File)
    }

    fn ends() -> (&'static OsStr, &'static OsStr) {
        (OsStr::new("/data"), OsStr::new("s3:bucket/"))
    }

    fn up() -> Way<'static> {
        Way::Up {
            volume: ends().0,
            store: ends().1,
        }
    }

    #[test]
    fn names_with_rclones_quote_go_in_a_list_of_their_own_untranslated() {
        let files = [file("a\nb"), file("q\u{201b}q")];
        let files: Vec<&Entry> = files.iter().collect();
        let (usual, raw) = lists(files.iter().map(|entry| entry.path.as_slice()));
        assert_eq!(usual, "a\u{240a}b\0".as_bytes());
        assert_eq!(raw, "q\u{201b}\u{201b}q\0".as_bytes());
        let commands = copies(&files, up(), (Pass::Always, 2), Features::default());
        let words: Vec<String> = commands
            .iter()
            .map(|command| format!("{command:?}"))
            .collect();
        assert_eq!(words.len(), 2);
        assert!(!words[0].contains("Raw") && words[1].contains(":local,encoding=Raw:/data"));
        assert!(copies(&[], up(), (Pass::Always, 2), Features::default()).is_empty());
        assert!(deletions(&[], ends().1).is_empty());
        assert!(deletions_of_listed(&[], ends().1).is_empty());
    }

    #[test]
    fn few_files_are_looked_up_and_many_are_listed() {
        let files: Vec<Entry> = (0..200).map(|number| file(&format!("f{number}"))).collect();
        let files: Vec<&Entry> = files.iter().collect();
        let looks_up = |count: usize, of| {
            let commands = copies(
                &files[..count],
                up(),
                (Pass::Always, of),
                Features::default(),
            );
            format!("{:?}", commands[0]).contains("--no-traverse")
        };
        assert!(looks_up(3, 3));
        assert!(!looks_up(200, 200));
        assert!(looks_up(200, 1_000_000));
    }

    #[test]
    fn large_files_among_many_small_ones_go_in_a_call_of_their_own() {
        let mut files: Vec<Entry> = (0..100).map(|number| file(&format!("f{number}"))).collect();
        files[50].size = 1 << 30;
        let files: Vec<&Entry> = files.iter().collect();
        let buckets = Features {
            bucket_based: true,
            ..Features::default()
        };
        let commands = copies(&files, up(), (Pass::Always, 100), buckets);
        let words: Vec<String> = commands
            .iter()
            .map(|command| format!("{command:?}"))
            .collect();
        assert_eq!(words.len(), 2);
        assert!(words[0].contains("(\"RCLONE_TRANSFERS\", \"64\")"));
        assert!(!words[0].contains("CHUNK_SIZE") && words[1].contains("16Mi"));
        assert!(words[1].contains("(\"RCLONE_TRANSFERS\", \"1\")"));
    }

    #[test]
    fn of_very_many_files_rclone_is_told_a_part_at_a_time_and_lists_folder_by_folder() {
        let buckets = Features {
            bucket_based: true,
            ..Features::default()
        };
        let files: Vec<Entry> = (0..=MOST_AT_ONCE)
            .map(|number| file(&format!("f{number}")))
            .collect();
        let files: Vec<&Entry> = files.iter().collect();
        let of = files.len() as u64;
        let lists_all = |command: &Command| format!("{command:?}").contains("FAST_LIST");
        let both = [
            copies(&files, up(), (Pass::ByHash, of), buckets),
            checksums(&files, ends().1, of, buckets),
        ];
        for commands in both {
            assert_eq!(commands.len(), 2);
            assert!(!commands.iter().any(lists_all));
        }
        let paths: Vec<Vec<u8>> = files.iter().map(|file| file.path.clone()).collect();
        assert_eq!(deletions(&paths, ends().1).len(), 2);
        let few = copies(&files[..200], up(), (Pass::ByHash, 200), buckets);
        assert!(few.len() == 1 && lists_all(&few[0]));
    }

    #[test]
    fn a_pass_compares_by_what_the_store_has() {
        let file = file("f");
        let words = |pass| {
            let commands = copies(&[&file], up(), (pass, 1), Features::default());
            format!("{:?}", commands[0])
        };
        assert!(words(Pass::Always).contains("--ignore-times"));
        assert!(!words(Pass::Always).contains("--s3-disable-checksum"));
        let restless = words(Pass::Restless);
        assert!(restless.contains("--ignore-times") && restless.contains("--s3-disable-checksum"));
        assert!(words(Pass::ByHash).contains("RCLONE_CHECKSUM"));
        let by_time = words(Pass::ByTime);
        assert!(!by_time.contains("--ignore-times") && !by_time.contains("RCLONE_CHECKSUM"));
    }

    #[test]
    fn what_goes_into_a_bucket_anyway_is_not_looked_up_and_what_is_fetched_or_may_lie_there_twice_is()
     {
        let file = file("f");
        let buckets = Features {
            bucket_based: true,
            ..Features::default()
        };
        let down = Way::Down {
            store: ends().1,
            volume: ends().0,
        };
        let is_blind = |way, pass, features| {
            let commands = copies(&[&file], way, (pass, 1), features);
            format!("{:?}", commands[0]).contains("--no-check-dest")
        };
        assert!(is_blind(up(), Pass::Always, buckets));
        assert!(!is_blind(up(), Pass::ByHash, buckets));
        assert!(!is_blind(down, Pass::Always, buckets));
        assert!(!is_blind(up(), Pass::Always, Features::default()));
    }

    #[test]
    fn a_sync_of_everything_leaves_the_users_own_rules_in_force() {
        let words = |key| format!("{:?}", whole("sync", ends(), key, Features::default()));
        assert!(words("RCLONE_EXCLUDE").contains("- /lost+found/**"));
        assert!(!words("RCLONE_EXCLUDE").contains("--exclude"));
        assert!(!words("RCLONE_FILTER").contains("--filter"));
        let hashes = Features {
            hashes: true,
            keeps_times: true,
            ..Features::default()
        };
        let words = |command: Command| format!("{command:?}");
        assert!(words(whole("sync", ends(), "", hashes)).contains("RCLONE_CHECKSUM"));
        let by_time = words(whole_by_time("sync", ends(), "", hashes));
        assert!(!by_time.contains("RCLONE_CHECKSUM") && !by_time.contains("RCLONE_IGNORE_TIMES"));
        let words = |key| format!("{:?}", whole("sync", ends(), key, Features::default()));
        // Neither hashes nor times: only sending shows what is the same.
        assert!(words("").contains("RCLONE_IGNORE_TIMES"));
    }
}
