//! Trees given from one folder to another with a stand-in for rclone, which carries the content of regular files and nothing
//! else, and trees of which somebody means harm.

mod hostile;
mod turns;
pub(crate) mod user;

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use syncline_testkit::tree::{Ignore, path_of};
use syncline_testkit::{Tree, corpus};

use super::restore::RestoreError;
use super::*;

/// An entry of which a test changes what it is about.
pub(crate) fn entry(path: impl AsRef<[u8]>, kind: Kind) -> Entry {
    let time = Time { sec: 1, nanos: 2 };
    Entry {
        path: path.as_ref().to_vec(),
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: time,
        ctime: time,
        inode: 1,
        device_links: 1,
        size: 0,
        sparse: false,
        sent: 0,
        xattrs: Vec::new(),
    }
}

/// Two folders.
struct Pair {
    folder: tempfile::TempDir,
}

impl Pair {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("source")).unwrap();
        fs::create_dir(folder.path().join("target")).unwrap();
        Self { folder }
    }

    fn source(&self) -> PathBuf {
        self.folder.path().join("source")
    }

    fn target(&self) -> PathBuf {
        self.folder.path().join("target")
    }

    /// Carries the source's tree over, and returns what was lost and the paths of the files that were fetched.
    fn carry(&self) -> (Unpreserved, Vec<Vec<u8>>) {
        let entries = scan(&self.source()).unwrap().entries;
        let present = prepare(&self.target(), &entries).unwrap();
        let fetched = fetch(&self.source(), &self.target(), &entries, &present);
        prune(&self.target(), &entries).unwrap();
        let lost = restore(&self.target(), &entries, &present).unwrap();
        (lost, fetched)
    }

    fn must_be_alike(&self) {
        let source = Tree::scan(&self.source()).unwrap().without("lost+found");
        let target = Tree::scan(&self.target()).unwrap().without("lost+found");
        source.must_equal(&target, Ignore::default()).unwrap();
    }
}

/// What rclone does: a file is written under another name and renamed; its folders are made; times are of whole seconds.
fn fetch(source: &Path, target: &Path, entries: &[Entry], present: &Scan) -> Vec<Vec<u8>> {
    let linked = Linked::of(entries);
    let mut fetched = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let is_there = present
            .at(&entry.path)
            .is_some_and(|have| have.looks_like(entry));
        if !entry.is_file() || linked.first(index).is_some() || is_there {
            continue;
        }
        let place = target.join(path_of(&entry.path));
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        let partial = place.parent().unwrap().join(".partial");
        let content = fs::read(source.join(path_of(&entry.path))).unwrap();
        fs::write(&partial, content).unwrap();
        corpus::set_mtime(&partial, entry.mtime.sec, 0).unwrap();
        fs::rename(&partial, &place).unwrap();
        fetched.push(entry.path.clone());
    }
    fetched
}

fn names(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|entry| shown(&entry.path)).collect()
}

#[test]
fn a_scan_sees_everything_once_and_in_order() {
    let pair = Pair::new();
    corpus::hostile(&pair.source(), geteuid().as_raw()).unwrap();
    corpus::crowd(&pair.source(), 64).unwrap();
    let tree = Tree::scan(&pair.source()).unwrap();
    let found = scan(&pair.source()).unwrap();
    assert_eq!(found.held(), tree.len() as u64);
    assert!(
        found
            .entries
            .is_sorted_by(|one, other| one.path < other.path)
    );
    assert!(found.entries[0].is_root());
    for (path, expected) in tree.entries() {
        let entry = found.at(path.as_os_str().as_bytes()).unwrap();
        assert_eq!(entry.mode, expected.mode, "{path:?}");
        assert_eq!((entry.uid, entry.gid), (expected.uid, expected.gid));
        assert_eq!(entry.size, expected.size);
        assert_eq!(
            (entry.mtime.sec, i64::from(entry.mtime.nanos)),
            expected.mtime
        );
        let attributes: Vec<Attribute> = expected
            .xattrs
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value.clone()))
            .collect();
        assert_eq!(entry.xattrs, attributes);
        assert!(entry.sparse || !expected.sparse, "{path:?}");
    }
    let census = crate::fs::census(&pair.source()).unwrap();
    assert_eq!((found.held(), found.bytes), (census.entries, census.bytes));
}

#[test]
fn a_scan_passes_the_roots_lost_and_found_and_no_other() {
    let pair = Pair::new();
    fs::create_dir_all(pair.source().join("lost+found/stray")).unwrap();
    fs::create_dir_all(pair.source().join("a/lost+found")).unwrap();
    let found = scan(&pair.source()).unwrap();
    assert_eq!(names(&found.entries), [".", "a", "a/lost+found"]);
}

#[test]
fn a_scan_of_nothing_says_where_it_looked() {
    let error = scan(Path::new("/nowhere/at/all")).unwrap_err();
    assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
}

#[test]
fn everything_that_a_transfer_of_files_loses_is_restored() {
    let pair = Pair::new();
    corpus::hostile(&pair.source(), geteuid().as_raw()).unwrap();
    corpus::crowd(&pair.source(), 64).unwrap();
    if geteuid().is_root() {
        corpus::owners(&pair.source()).unwrap();
        corpus::device(&pair.source().join("device")).unwrap();
        xattr::set(pair.source().join("sparse"), "trusted.mark", b"root only").unwrap();
    }
    let _socket = std::os::unix::net::UnixListener::bind(pair.source().join("socket")).unwrap();
    fs::set_permissions(pair.source(), fs::Permissions::from_mode(0o2750)).unwrap();
    corpus::set_mtime(&pair.source(), 1_500_000_000, 77).unwrap();
    let (lost, fetched) = pair.carry();
    assert_eq!(lost.sentences(), Vec::<String>::new());
    assert!(!fetched.contains(&b"links/same inode".to_vec()));
    pair.must_be_alike();
}

/// What `setcap cap_net_raw=ep` writes.
const CAPABILITY: [u8; 20] = [
    1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

#[test]
fn a_programs_rights_survive_the_change_of_its_owner() {
    if !geteuid().is_root() {
        // Nobody else may give them.
        return;
    }
    let pair = Pair::new();
    let file = pair.source().join("program");
    fs::write(&file, "a program").unwrap();
    lchown(&file, Some(1234), Some(4321)).unwrap();
    xattr::set(&file, "security.capability", &CAPABILITY).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o6551)).unwrap();
    for _ in 0..2 {
        let (lost, _) = pair.carry();
        assert!(lost.is_empty(), "{:?}", lost.sentences());
        pair.must_be_alike();
        lchown(&file, Some(4321), Some(1234)).unwrap();
        xattr::set(&file, "security.capability", &CAPABILITY).unwrap();
    }
}

/// Gives this thread mounts of its own, which go with it.
#[expect(
    deprecated,
    reason = "the other form is unsafe because of file descriptors, which are not unshared here"
)]
fn own_view_of_mounts() {
    rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNS).unwrap();
}

#[test]
fn another_file_system_in_the_tree_is_neither_read_nor_pruned() {
    use rustix::mount::{MountFlags, MountPropagationFlags};
    if !geteuid().is_root() {
        // Nobody else may mount.
        return;
    }
    let pair = Pair::new();
    let work = || {
        own_view_of_mounts();
        let apart = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", apart).unwrap();
        for side in [pair.source(), pair.target()] {
            for name in ["in both", "in one"] {
                if side == pair.source() && name == "in one" {
                    continue;
                }
                let point = side.join(name);
                fs::create_dir(&point).unwrap();
                rustix::mount::mount("none", &point, "tmpfs", MountFlags::empty(), None).unwrap();
                fs::write(point.join("inside"), "").unwrap();
            }
        }
        let entries = scan(&pair.source()).unwrap().entries;
        assert_eq!(names(&entries), [".", "in both"]);
        assert_eq!(prune(&pair.target(), &entries).unwrap(), 0);
        assert!(pair.target().join("in both/inside").exists());
        assert!(pair.target().join("in one/inside").exists());
    };
    std::thread::scope(|scope| scope.spawn(work).join().unwrap());
}

#[test]
fn a_second_run_fetches_nothing_and_keeps_everything() {
    let pair = Pair::new();
    corpus::hostile(&pair.source(), geteuid().as_raw()).unwrap();
    pair.carry();
    let inode = fs::metadata(pair.target().join("links/file"))
        .unwrap()
        .ino();
    let (lost, fetched) = pair.carry();
    assert!(lost.is_empty());
    assert_eq!(fetched, Vec::<Vec<u8>>::new());
    pair.must_be_alike();
    let after = fs::metadata(pair.target().join("links/file"))
        .unwrap()
        .ino();
    assert_eq!(inode, after);
}

#[test]
fn what_changed_in_any_way_follows() {
    let pair = Pair::new();
    corpus::hostile(&pair.source(), geteuid().as_raw()).unwrap();
    pair.carry();
    let at = |path: &str| pair.source().join(path);
    // Kinds change places.
    fs::remove_file(at("zero bytes")).unwrap();
    fs::create_dir_all(at("zero bytes/now a folder")).unwrap();
    fs::remove_dir_all(at("empty")).unwrap();
    symlink("many", at("empty")).unwrap();
    fs::remove_file(at("links/dangling")).unwrap();
    fs::write(at("links/dangling"), "a file").unwrap();
    fs::remove_file(at("links/to a folder")).unwrap();
    fs::create_dir(at("links/to a folder")).unwrap();
    fs::write(at("links/to a folder/file"), "in it").unwrap();
    // Names of one file part without any other change, and others join.
    let twin = fs::metadata(at("links/file")).unwrap().modified().unwrap();
    fs::remove_file(at("links/same inode")).unwrap();
    fs::write(at("links/same inode"), "linked to").unwrap();
    let file = fs::File::options()
        .write(true)
        .open(at("links/same inode"))
        .unwrap();
    file.set_modified(twin).unwrap();
    fs::remove_file(at("links/twin")).unwrap();
    fs::hard_link(at("one megabyte"), at("links/twin")).unwrap();
    // Nothing but metadata.
    xattr::remove(at("attributes/file"), "user.comment").unwrap();
    xattr::remove(at("attributes"), "system.posix_acl_default").unwrap();
    xattr::set(at("modes and times/755"), "user.new", b"1").unwrap();
    fs::set_permissions(
        at("modes and times/4755"),
        fs::Permissions::from_mode(0o640),
    )
    .unwrap();
    corpus::set_mtime(&at("many"), 12, 34).unwrap();
    fs::remove_file(at("links/absolute")).unwrap();
    symlink("/etc/passwd", at("links/absolute")).unwrap();
    if geteuid().is_root() {
        lchown(at("modes and times/2755"), Some(7), Some(8)).unwrap();
        lchown(at("links/climbing"), Some(7), Some(8)).unwrap();
    }
    let (lost, fetched) = pair.carry();
    assert!(lost.is_empty(), "{:?}", lost.sentences());
    let expected: Vec<&[u8]> = vec![
        b"links/dangling",
        b"links/same inode",
        b"links/to a folder/file",
        // The first name of a file that is there under another.
        b"links/twin",
    ];
    // One of the two files that were one has to be fetched again; which one does not matter.
    let (again, rest): (Vec<_>, Vec<_>) = fetched
        .iter()
        .map(Vec::as_slice)
        .partition(|path| path.starts_with(b"links/elsewhere") || *path == b"links/file");
    assert!(again.len() <= 1, "{again:?}");
    assert_eq!(rest, expected);
    pair.must_be_alike();
}

#[test]
fn what_the_target_has_too_much_goes_and_its_lost_and_found_stays() {
    let pair = Pair::new();
    fs::write(pair.source().join("kept"), "kept").unwrap();
    corpus::hostile(&pair.target(), geteuid().as_raw()).unwrap();
    fs::create_dir(pair.target().join("lost+found")).unwrap();
    fs::write(pair.target().join("lost+found/stray"), "x").unwrap();
    let outside = pair.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "not ours").unwrap();
    symlink(&outside, pair.target().join("links/out")).unwrap();
    pair.carry();
    pair.must_be_alike();
    assert!(pair.target().join("lost+found/stray").exists());
    assert_eq!(fs::read(outside.join("file")).unwrap(), b"not ours");
}

#[test]
fn pruning_says_how_many_entries_went() {
    let pair = Pair::new();
    fs::create_dir_all(pair.target().join("a/b/c")).unwrap();
    fs::write(pair.target().join("a/b/c/file"), "").unwrap();
    fs::write(pair.target().join("file"), "").unwrap();
    fs::write(pair.target().join("kept"), "").unwrap();
    fs::write(pair.source().join("kept"), "").unwrap();
    let keep = scan(&pair.source()).unwrap().entries;
    assert_eq!(prune(&pair.target(), &keep).unwrap(), 5);
    assert_eq!(prune(&pair.target(), &keep).unwrap(), 0);
    assert_eq!(names(&scan(&pair.target()).unwrap().entries), [".", "kept"]);
}

#[test]
fn a_file_that_did_not_arrive_or_arrived_short_is_an_error_that_names_it() {
    let pair = Pair::new();
    fs::write(pair.source().join("file"), "whole").unwrap();
    let entries = scan(&pair.source()).unwrap().entries;
    let error = restore(&pair.target(), &entries, &Scan::default()).unwrap_err();
    assert!(
        matches!(&error, RestoreError::Missing { path } if path == "file"),
        "{error}"
    );
    fs::write(pair.target().join("file"), "half").unwrap();
    let error = restore(&pair.target(), &entries, &Scan::default()).unwrap_err();
    assert!(
        matches!(&error, RestoreError::Differs { path, expected: 5, found: 4 } if path == "file"),
        "{error}"
    );
    assert!(!error.is_full());
}

#[test]
fn a_file_system_without_room_is_told_from_other_failures() {
    let failure = Failure::new("making", b"a", rustix::io::Errno::NOSPC);
    assert!(RestoreError::from(failure).is_full());
    let failure = Failure::new("making", b"a", rustix::io::Errno::ACCESS);
    assert!(failure.to_string().contains("moverSecurityContext"));
    assert!(!failure.is_full());
}
