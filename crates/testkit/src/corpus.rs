//! Trees that are hard to copy, and big plain ones.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps};

use crate::tree::path_of;

/// Size of the sparse file, of which only a few blocks hold data.
const SPARSE_SIZE: u64 = 8 << 20;

/// Makes, under `root`, every kind of entry that volumes are known to hold and that copying tools are known to get
/// wrong. It is meant for programs that run as `owner`: for root it adds what only root may make or read, that is
/// foreign owners, files without any permission, pipes.
pub fn hostile(root: &Path, owner: u32) -> Result<()> {
    fs::create_dir_all(root)?;
    names(root)?;
    directories(root)?;
    links(root)?;
    sparse(root)?;
    attributes(root, owner)?;
    modes_and_times(root)?;
    if owner == 0 {
        privileged(root)?;
    }
    Ok(())
}

/// Makes `count` small files in a few directories under `root`; the same `seed` gives the same content.
pub fn plain(root: &Path, count: usize, seed: u64) -> Result<()> {
    for index in 0..count {
        let folder = root.join(format!("folder-{:03}", index / 100));
        if index % 100 == 0 {
            fs::create_dir_all(&folder)?;
        }
        let length = 200 + (index * 37) % 4000;
        fs::write(
            folder.join(format!("file-{index:06}")),
            noise(length, seed.wrapping_add(index as u64)),
        )?;
    }
    Ok(())
}

/// Makes `count` small files in one folder under `root`, whose names shells, patterns and lists of names trip over.
pub fn crowd(root: &Path, count: usize) -> Result<()> {
    let folder = root.join("crowd");
    fs::create_dir_all(&folder)?;
    for index in 0..count {
        let number = index.to_string();
        let (before, after): (&[u8], &[u8]) = match index % 8 {
            0 => (b"with space ", b" and another "),
            1 => (b"#", b""),
            2 => (b"-", b" --delete"),
            3 => (b"line\n", b"\n"),
            4 => (b"\xff\xe9\x80", b"\xfe"),
            5 => (b"*", b"?[a-z]{b,c}"),
            6 => (b".", b"~"),
            _ => (b"\\#012 '\"", b"$(id)`id`"),
        };
        let name = [before, number.as_bytes(), after].concat();
        fs::write(folder.join(path_of(&name)), number)?;
    }
    Ok(())
}

/// Makes files of many owners and groups, with names and without, and folders that only they may enter. No set-group-id
/// bits: to keep those of groups it is no member of, a receiver needs `CAP_FSETID`, which rsync's movers do not have.
pub fn owners(root: &Path) -> Result<()> {
    for (uid, gid) in [
        (0, 0),
        (0, 5678),
        (1, 1),
        (1000, 1000),
        (1234, 5678),
        (65_534, 65_534),
        (4_000_000_000, 4_000_000_001),
    ] {
        let folder = root.join(format!("of {uid} and {gid}"));
        fs::create_dir_all(&folder)?;
        for (name, mode) in [
            ("private", 0o600),
            ("for the group", 0o640),
            ("set-id", 0o4755),
        ] {
            let file = folder.join(name);
            fs::write(&file, format!("{uid}:{gid}"))?;
            lchown(&file, Some(uid), Some(gid))?;
            fs::set_permissions(&file, fs::Permissions::from_mode(mode))?;
        }
        symlink("private", folder.join("link"))?;
        lchown(folder.join("link"), Some(uid), Some(gid))?;
        lchown(&folder, Some(uid), Some(gid))?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o750))?;
    }
    Ok(())
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        // xorshift64*: quick, and its quality is of no account here.
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Gives everything under `root` (itself included) to this owner; links are not followed.
pub fn give_to(root: &Path, uid: u32, gid: u32) -> Result<()> {
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let metadata = fs::symlink_metadata(&path)?;
        lchown(&path, Some(uid), Some(gid))
            .with_context(|| format!("cannot give away {}", path.display()))?;
        if metadata.is_dir() {
            for child in fs::read_dir(&path)? {
                pending.push(child?.path());
            }
        } else if metadata.is_file() {
            // A change of owner clears the set-id bits; they belong to the fixture.
            fs::set_permissions(&path, metadata.permissions())?;
        }
    }
    Ok(())
}

fn names(root: &Path) -> Result<()> {
    let folder = root.join("names");
    fs::create_dir_all(&folder)?;
    let plain: [&[u8]; 17] = [
        b"with space",
        b" leading and trailing ",
        b"new\nline",
        b"tab\tand\rreturn",
        b"caf\xe9 in latin-1",
        b"\xff\xfe\x80",
        "Grüße, 世界, \u{1F980}".as_bytes(),
        "e\u{301} decomposed".as_bytes(),
        b"#hash",
        b"-rf",
        b"--delete",
        b"*?[a-z]{b,c}",
        b"$(reboot) `id` ;&|<>",
        b"back\\slash \\#012",
        b"quotes ' \" '",
        b".hidden",
        b"~tilde",
    ];
    for name in plain {
        fs::write(folder.join(path_of(name)), name)?;
    }
    fs::write(folder.join("n".repeat(255)), "a name of 255 bytes")?;
    let mut deep = folder.join("deep");
    for level in 0..12 {
        deep.push(format!("{level:02}-{}", "d".repeat(120)));
    }
    fs::create_dir_all(&deep)?;
    fs::write(deep.join("at the bottom"), "far down")?;
    Ok(())
}

fn directories(root: &Path) -> Result<()> {
    fs::create_dir_all(root.join("empty/and/nested"))?;
    let full = root.join("many");
    fs::create_dir_all(&full)?;
    for index in 0..300 {
        fs::write(full.join(format!("{index}")), format!("{index}"))?;
    }
    fs::write(root.join("zero bytes"), "")?;
    fs::write(root.join("one megabyte"), noise(1 << 20, 1))?;
    let locked = root.join("read-only folder");
    fs::create_dir_all(&locked)?;
    fs::write(locked.join("inside"), "nobody may add to my folder")?;
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555))?;
    Ok(())
}

fn links(root: &Path) -> Result<()> {
    let folder = root.join("links");
    fs::create_dir_all(folder.join("elsewhere"))?;
    fs::write(folder.join("file"), "linked to")?;
    symlink("file", folder.join("relative"))?;
    symlink("/etc/hostname", folder.join("absolute"))?;
    symlink("../../../../../../etc/passwd", folder.join("climbing"))?;
    symlink("nowhere/at/all", folder.join("dangling"))?;
    symlink("elsewhere", folder.join("to a folder"))?;
    symlink("itself", folder.join("itself"))?;
    symlink("new\nline", folder.join("odd\ntarget"))?;
    fs::hard_link(folder.join("file"), folder.join("same inode"))?;
    fs::hard_link(folder.join("file"), folder.join("elsewhere/same inode too"))?;
    fs::write(folder.join("twin"), "linked to")?;
    Ok(())
}

fn sparse(root: &Path) -> Result<()> {
    let mut file = File::create(root.join("sparse"))?;
    file.write_all(b"head")?;
    file.seek(SeekFrom::Start(SPARSE_SIZE / 2))?;
    file.write_all(&noise(8192, 2))?;
    file.set_len(SPARSE_SIZE)?;
    File::create(root.join("only a hole"))?.set_len(SPARSE_SIZE)?;
    Ok(())
}

fn attributes(root: &Path, owner: u32) -> Result<()> {
    let folder = root.join("attributes");
    fs::create_dir_all(&folder)?;
    let file = folder.join("file");
    fs::write(&file, "with attributes")?;
    xattr::set(&file, "user.comment", "größer".as_bytes())?;
    xattr::set(&file, "user.binary", &[0, 1, 2, 255, 0])?;
    xattr::set(&file, "user.empty", b"")?;
    xattr::set(&folder, "user.of a folder", b"yes")?;
    for (path, name) in [
        (&file, "system.posix_acl_access"),
        (&folder, "system.posix_acl_access"),
        (&folder, "system.posix_acl_default"),
    ] {
        xattr::set(path, name, &acl(owner)).with_context(|| format!("cannot set {name}"))?;
    }
    Ok(())
}

/// A POSIX ACL in the kernel's form: version 2, then (tag, permissions, id) records with one named user.
fn acl(named_user: u32) -> Vec<u8> {
    const NO_ID: u32 = u32::MAX;
    let records: [(u16, u16, u32); 5] = [
        (0x01, 7, NO_ID),
        (0x02, 5, named_user),
        (0x04, 5, NO_ID),
        (0x10, 5, NO_ID),
        (0x20, 0, NO_ID),
    ];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in records {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&permissions.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

fn modes_and_times(root: &Path) -> Result<()> {
    let folder = root.join("modes and times");
    fs::create_dir_all(&folder)?;
    for mode in [0o400, 0o444, 0o600, 0o755, 0o1644, 0o2755, 0o4755] {
        let path = folder.join(format!("{mode:o}"));
        fs::write(&path, format!("{mode:o}"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    let sticky = folder.join("sticky folder");
    fs::create_dir_all(&sticky)?;
    fs::set_permissions(&sticky, fs::Permissions::from_mode(0o1777))?;
    for (name, seconds, nanoseconds) in [
        ("at the epoch", 0, 1),
        ("with nanoseconds", 1_700_000_000, 123_456_789),
        ("in the future", 4_000_000_000, 999_999_999),
    ] {
        let path = folder.join(name);
        fs::write(&path, name)?;
        set_mtime(&path, seconds, nanoseconds)?;
    }
    symlink("at the epoch", folder.join("old link"))?;
    set_mtime(&folder.join("old link"), 1_000_000_000, 5)?;
    set_mtime(&root.join("empty/and/nested"), 1_200_000_000, 7)?;
    Ok(())
}

/// Sets an entry's modification time (a link's own, not its target's).
pub fn set_mtime(path: &Path, seconds: i64, nanoseconds: i64) -> Result<()> {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    rustix::fs::utimensat(
        CWD,
        path,
        &Timestamps {
            last_access: time,
            last_modification: time,
        },
        AtFlags::SYMLINK_NOFOLLOW,
    )
    .with_context(|| format!("cannot set the time of {}", path.display()))
}

fn privileged(root: &Path) -> Result<()> {
    let folder = root.join("only root");
    fs::create_dir_all(&folder)?;
    for (name, uid, gid) in [
        ("alice's", 1001, 1001),
        ("of no name here", 54_321, 65_432),
        ("mixed", 0, 12),
    ] {
        let path = folder.join(name);
        fs::write(&path, name)?;
        lchown(&path, Some(uid), Some(gid))?;
    }
    symlink("mixed", folder.join("alice's link"))?;
    lchown(folder.join("alice's link"), Some(1001), Some(1001))?;
    let unreadable = folder.join("mode 0");
    fs::write(&unreadable, "root reads me all the same")?;
    fs::set_permissions(&unreadable, fs::Permissions::from_mode(0o000))?;
    let fifo = folder.join("fifo");
    rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o640), 0)?;
    Ok(())
}

/// Makes a device file, which only root may. Opening it leads nowhere.
pub fn device(path: &Path) -> Result<()> {
    let nothing = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(
        CWD,
        path,
        FileType::CharacterDevice,
        Mode::from_raw_mode(0o600),
        nothing,
    )?;
    Ok(())
}

/// Changes about `percent` of the files under `root` that are at least one byte long: each gets a new first half.
/// Adds one file and removes one. Returns the number of bytes of all files touched.
pub fn change(root: &Path, percent: usize, seed: u64) -> Result<u64> {
    let mut files = files_below(root)?;
    files.sort();
    let mut touched = 0;
    for path in files.iter().step_by((100 / percent.max(1)).max(1)) {
        let length = fs::metadata(path)?.len();
        let mut file = OpenOptions::new().write(true).open(path)?;
        file.write_all(&noise(usize::try_from(length / 2)?, seed ^ length))?;
        touched += length;
    }
    if let Some(last) = files.last() {
        fs::remove_file(last)?;
    }
    let added = noise(5000, seed);
    fs::write(root.join(format!("added-{seed}")), &added)?;
    Ok(touched + added.len() as u64)
}

/// Every regular file below `root`.
pub fn files_below(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(folder) = pending.pop() {
        for child in
            fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?
        {
            let child = child?;
            let kind = child.file_type()?;
            if kind.is_dir() {
                pending.push(child.path());
            } else if kind.is_file() {
                found.push(child.path());
            }
        }
    }
    Ok(found)
}
