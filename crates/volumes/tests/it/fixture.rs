//! Folders on file systems of each kind, trees with everything in them, and an ordinary user.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, Timespec, Timestamps, makedev, mknodat, utimensat};
use syncline_volumes::{Options, Volumes};
use tempfile::TempDir;

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A folder for a test; mounted from an image of its own or simply in the temporary folder.
pub(crate) struct Disk {
    mounted: bool,
    folder: PathBuf,
    _room: TempDir,
}

impl Disk {
    pub(crate) fn plain() -> Self {
        let room = tempfile::tempdir().unwrap();
        Self {
            mounted: false,
            folder: room.path().to_owned(),
            _room: room,
        }
    }

    /// A fresh file system in an image file; `None` (said in the output) for an ordinary user, who cannot mount.
    pub(crate) fn mount(kind: &str) -> Option<Self> {
        if !is_root() {
            println!("not run on {kind}: only root can mount an image");
            return None;
        }
        let room = tempfile::tempdir().unwrap();
        let image = room.path().join("image");
        fs::File::create(&image)
            .unwrap()
            .set_len(512 << 20)
            .unwrap();
        run(Command::new(format!("mkfs.{kind}")).arg("-q").arg(&image));
        let folder = room.path().join("mount");
        fs::create_dir(&folder).unwrap();
        run(Command::new("mount")
            .args(["-o", "loop"])
            .arg(&image)
            .arg(&folder));
        Some(Self {
            mounted: true,
            folder,
            _room: room,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn volumes(&self) -> Volumes {
        Volumes::open(&self.folder.join("store")).unwrap()
    }

    pub(crate) fn volumes_with(&self, options: Options) -> Volumes {
        Volumes::open_with(&self.folder.join("store"), options).unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
        }
    }
}

#[track_caller]
pub(crate) fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

pub(crate) fn set_times(path: &Path, accessed: (i64, i64), modified: (i64, i64)) {
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: accessed.0,
            tv_nsec: accessed.1,
        },
        last_modification: Timespec {
            tv_sec: modified.0,
            tv_nsec: modified.1,
        },
    };
    utimensat(CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// A tree with one of everything that a volume can hold.
pub(crate) fn rich_tree(root: &Path) {
    fs::create_dir_all(root.join("plain/deep/er")).unwrap();
    fs::write(root.join("plain/file"), b"hello").unwrap();
    fs::write(root.join("plain/empty"), b"").unwrap();
    fs::write(root.join("plain/deep/er/large"), vec![7_u8; 1 << 20]).unwrap();
    fs::write(
        root.join(OsStr::from_bytes(b"name\nwith \xff\xfe#bytes")),
        b"odd",
    )
    .unwrap();
    fs::create_dir(root.join("lost+found")).unwrap();
    fs::write(root.join("lost+found/#12"), b"found").unwrap();
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(16 << 20).unwrap();
    sparse.write_all_at(b"start", 0).unwrap();
    sparse.write_all_at(b"middle", 9 << 20).unwrap();
    fs::hard_link(root.join("plain/file"), root.join("second name")).unwrap();
    fs::hard_link(root.join("plain/file"), root.join("plain/deep/third name")).unwrap();
    symlink("plain/file", root.join("link")).unwrap();
    symlink("/nowhere/at all", root.join("dangling")).unwrap();
    mknodat(
        CWD,
        root.join("fifo"),
        FileType::Fifo,
        Mode::from_raw_mode(0o640),
        0,
    )
    .unwrap();
    drop(std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap());
    xattr::set(root.join("plain/file"), "user.colour", b"blue\0green").unwrap();
    xattr::set(root.join("plain/deep"), "user.kind", b"directory").unwrap();
    fs::set_permissions(root.join("plain/empty"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(
        root.join("plain/deep/er"),
        fs::Permissions::from_mode(0o1711),
    )
    .unwrap();
    add_protected(root);
    for name in [
        "plain/file",
        "link",
        "dangling",
        "fifo",
        "plain/deep/er",
        "plain/deep",
        "plain",
    ] {
        set_times(
            &root.join(name),
            (1_000_000_001, 123_456_789),
            (999_999_999, 987_654_321),
        );
    }
    set_times(root, (1_111_111_111, 1), (-5, 250_000_000));
}

/// Runs on a thread that has become an ordinary user (uid and gid 1000); as that user anyway, simply runs.
pub(crate) fn as_ordinary_user<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                if is_root() {
                    let (uid, gid) = (
                        rustix::fs::Uid::from_raw(1000),
                        rustix::fs::Gid::from_raw(1000),
                    );
                    rustix::thread::set_thread_groups(&[]).unwrap();
                    rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
                    rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
                }
                work()
            })
            .join()
            .unwrap()
    })
}

/// What access lists guard, and what only root can make.
fn add_protected(root: &Path) {
    fs::write(root.join("acl"), b"shared").unwrap();
    run(Command::new("setfacl")
        .args(["-m", "u:4711:rw,g:4712:r"])
        .arg(root.join("acl")));
    run(Command::new("setfacl")
        .args(["-d", "-m", "u:4711:rx"])
        .arg(root.join("plain/deep")));
    if is_root() {
        mknodat(
            CWD,
            root.join("null"),
            FileType::CharacterDevice,
            Mode::from_raw_mode(0o666),
            makedev(1, 3),
        )
        .unwrap();
        std::os::unix::fs::lchown(root.join("plain/deep/er/large"), Some(1234), Some(5678))
            .unwrap();
        std::os::unix::fs::lchown(root.join("link"), Some(1234), Some(5678)).unwrap();
        std::os::unix::fs::lchown(root.join("plain/deep"), Some(1234), Some(5678)).unwrap();
        xattr::set(root.join("plain/file"), "trusted.secret", b"for root").unwrap();
        let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        xattr::set(
            root.join("plain/deep/er/large"),
            "security.capability",
            &capability,
        )
        .unwrap();
    }
}
