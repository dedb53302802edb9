//! A tree with everything that a volume may hold, and whole trees compared.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::pair::{is_root, run};

/// What one entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    kind: char,
    mode: u32,
    owner: (u32, u32),
    modified: (i64, i64),
    content: Vec<u8>,
    device: u64,
    attributes: BTreeMap<OsString, Vec<u8>>,
    /// The first name of the same file.
    same_as: PathBuf,
}

/// Every entry beneath `root`, and the root itself; `lost+found` at the root apart.
pub(crate) fn manifest(root: &Path) -> BTreeMap<PathBuf, Entry> {
    let mut entries = BTreeMap::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(path) = pending.pop() {
        let full = root.join(&path);
        let metadata = std::fs::symlink_metadata(&full).unwrap();
        if metadata.is_dir() {
            let names = std::fs::read_dir(&full)
                .unwrap()
                .map(|entry| entry.unwrap().file_name());
            pending.extend(
                names
                    .filter(|name| path != Path::new("") || name != "lost+found")
                    .map(|name| path.join(name)),
            );
        }
        entries.insert(path, entry(&full, &metadata));
    }
    let mut first_names: BTreeMap<(u64, u64), PathBuf> = BTreeMap::new();
    for (path, entry) in &mut entries {
        let metadata = std::fs::symlink_metadata(root.join(path)).unwrap();
        let first = first_names
            .entry((metadata.dev(), metadata.ino()))
            .or_insert_with(|| path.clone());
        entry.same_as.clone_from(first);
    }
    entries
}

fn entry(full: &Path, metadata: &std::fs::Metadata) -> Entry {
    let file_type = metadata.file_type();
    let (kind, content) = if file_type.is_file() {
        ('f', std::fs::read(full).unwrap())
    } else if file_type.is_symlink() {
        (
            'l',
            std::fs::read_link(full)
                .unwrap()
                .as_os_str()
                .as_bytes()
                .to_vec(),
        )
    } else if file_type.is_dir() {
        ('d', Vec::new())
    } else if file_type.is_fifo() {
        ('p', Vec::new())
    } else {
        ('b', Vec::new())
    };
    let names = if file_type.is_symlink() {
        Vec::new()
    } else {
        xattr::list(full).unwrap().collect()
    };
    let attributes = names
        .into_iter()
        .filter_map(|name| xattr::get(full, &name).unwrap().map(|value| (name, value)))
        .collect();
    Entry {
        kind,
        mode: metadata.mode(),
        owner: (metadata.uid(), metadata.gid()),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        content,
        device: metadata.rdev(),
        attributes,
        same_as: PathBuf::new(),
    }
}

/// Fails with the first differences of two trees.
#[track_caller]
pub(crate) fn assert_same(left: &Path, right: &Path) {
    compare(left, right, |_| {});
}

/// The same after `forget` has removed what the transfer was not meant to keep.
#[track_caller]
pub(crate) fn compare(left: &Path, right: &Path, forget: impl Fn(&mut Entry)) {
    let [left, right] = [left, right].map(|root| {
        let mut entries = manifest(root);
        entries.values_mut().for_each(&forget);
        entries
    });
    let mut differences = Vec::new();
    for path in left.keys().chain(right.keys()) {
        let (one, other) = (left.get(path), right.get(path));
        if one != other {
            differences.push(format!(
                "{}: {} / {}",
                path.display(),
                brief(one),
                brief(other)
            ));
        }
    }
    differences.dedup();
    differences.truncate(20);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn brief(entry: Option<&Entry>) -> String {
    let Some(entry) = entry else {
        return "not there".to_owned();
    };
    let Entry {
        kind,
        mode,
        owner,
        modified,
        content,
        attributes,
        same_as,
        ..
    } = entry;
    format!(
        "{kind} {mode:o} {owner:?} {modified:?} {} bytes {attributes:?} {}",
        content.len(),
        same_as.display()
    )
}

/// Drops fractions of seconds, which rsync by default does not compare: what is made within one second at both ends
/// counts as the same.
pub(crate) fn by_the_second(entry: &mut Entry) {
    entry.modified.1 = 0;
}

/// Drops what VolSync's options do not keep: extended attributes (ACLs, which are kept as such, stay), and fractions of
/// seconds.
pub(crate) fn as_volsync_keeps(entry: &mut Entry) {
    by_the_second(entry);
    entry
        .attributes
        .retain(|name, _| name.as_bytes().starts_with(b"system."));
}

/// Drops what stock rclone with VolSync's permissions file does not keep: attributes that are no ACLs, and times of folders.
pub(crate) fn as_stock_rclone_keeps(entry: &mut Entry) {
    as_volsync_keeps(entry);
    if entry.kind == 'd' {
        entry.modified = (0, 0);
    }
}

/// Fills `root` with everything that a volume may hold and the caller may make.
pub(crate) fn fill(root: &Path) {
    let path = |name: &str| root.join(name);
    std::fs::create_dir_all(path("a/b/c")).unwrap();
    std::fs::create_dir(path("empty")).unwrap();
    std::fs::create_dir(path("lost+found")).unwrap();
    std::fs::create_dir(path("a/lost+found")).unwrap();
    std::fs::write(path("a/lost+found/kept"), "further down it is data").unwrap();
    for number in 0..200 {
        std::fs::write(
            path(&format!("a/b/{number}")),
            format!("content {number}").repeat(number),
        )
        .unwrap();
    }
    let names: [&[u8]; 8] = [
        b"-dash",
        b"with space",
        b"new\nline",
        b"\xff\xfenot text",
        b"#hash$(id)`;",
        "grün".as_bytes(),
        b"tab\t*?[",
        b"~x",
    ];
    for name in names {
        std::fs::write(root.join(OsStr::from_bytes(name)), name).unwrap();
    }
    std::fs::write(path("linked"), "one file").unwrap();
    std::fs::hard_link(path("linked"), path("a/b/linked too")).unwrap();
    symlink("linked", path("link")).unwrap();
    symlink("/etc/passwd", path("absolute link")).unwrap();
    symlink("nowhere/at/all", path("dangling link")).unwrap();
    run(Command::new("mkfifo").arg(path("fifo")));
    let sparse = std::fs::File::create(path("sparse")).unwrap();
    sparse.set_len(8 << 20).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, b"island", 4 << 20).unwrap();
    xattr::set(path("linked"), "user.note", b"\x00binary\xff").unwrap();
    xattr::set(path("a/b"), "user.folder", b"value").unwrap();
    run(Command::new("setfacl")
        .args(["-m", "u:4711:rw,g:4712:r"])
        .arg(path("a/b/7")));
    run(Command::new("setfacl")
        .args(["-d", "-m", "u:4711:rwx"])
        .arg(path("empty")));
    run(Command::new("touch")
        .args(["-h", "-d", "1971-02-03T04:05:06.123456789Z"])
        .arg(path("link")));
    run(Command::new("touch")
        .args(["-d", "2001-02-03T04:05:06.987654321Z"])
        .arg(path("a/b/3")));
    for (name, mode) in [
        ("a/b/1", 0o400),
        ("a/b/2", 0o4755),
        ("a/b/c", 0o3777),
        ("a/b/4", 0o000),
    ] {
        // Only root can read what nobody may read.
        let mode = if mode == 0 && !is_root() { 0o440 } else { mode };
        std::fs::set_permissions(path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    if is_root() {
        run(Command::new("mknod")
            .arg(path("null"))
            .args(["c", "1", "3"]));
        run(Command::new("chown").arg("4711:4712").arg(path("a/b/5")));
        run(Command::new("chown")
            .args(["-h", "4711:4712"])
            .arg(path("link")));
        xattr::set(path("linked"), "trusted.mark", b"root only").unwrap();
    }
}

/// Changes a filled tree: something new, changed, renamed, removed, another kind.
pub(crate) fn change(root: &Path) {
    std::fs::write(root.join("a/b/10"), "changed").unwrap();
    std::fs::write(root.join("a/new"), "new").unwrap();
    std::fs::rename(root.join("a/b/20"), root.join("a/b/20 renamed")).unwrap();
    std::fs::remove_file(root.join("a/b/30")).unwrap();
    std::fs::remove_dir_all(root.join("empty")).unwrap();
    std::fs::remove_file(root.join("link")).unwrap();
    std::fs::create_dir(root.join("link")).unwrap();
    std::fs::write(root.join("link/inside"), "was a link").unwrap();
    xattr::set(root.join("linked"), "user.note", b"another").unwrap();
}
