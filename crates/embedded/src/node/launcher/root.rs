//! The root that a container sees: the host's program folders, its volumes, and nothing else of the host.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, OFlags, Uid, fchmod, symlinkat};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::process::{fchdir, pivot_root, setsid, umask};

use super::accounts::accounts;
use super::error::LaunchError;
use super::mounts::{
    bind, ensure_directory, mount_new, open_in, path_of, restrict, restrict_tree, write_file,
};
use super::privileges::Caller;
use super::spec::{Mount, PROGRAMS, Source, Spec, VolumeFile};

/// The host's program folders. Where one is a symbolic link (`/bin` → `usr/bin`), the root has the same link.
const PROGRAM_FOLDERS: [&str; 7] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// What programs read outside of those folders and what says nothing about the host: the loader's cache, the links of
/// Debian's alternatives, the public certificates, the names of ports.
const PROGRAM_DATA: [&str; 11] = [
    "etc/alternatives",
    "etc/crypto-policies",
    "etc/ld.so.cache",
    "etc/ld.so.conf",
    "etc/ld.so.conf.d",
    "etc/pki/ca-trust",
    "etc/pki/tls/certs",
    "etc/protocols",
    "etc/services",
    "etc/ssl/certs",
    "etc/ssl/openssl.cnf",
];

/// Folders of the root itself, with their permission bits. sshd insists on `/run/sshd`.
const FOLDERS: [(&str, u32); 12] = [
    ("etc/ssh", 0o755),
    ("home", 0o755),
    ("mnt", 0o755),
    ("opt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run/sshd", 0o755),
    ("srv", 0o755),
    ("tmp", 0o1777),
    ("var/empty", 0o755),
    ("var/lib", 0o755),
    ("var/tmp", 0o1777),
];

/// Devices that are safe for anybody.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Parts of `/proc` by which root could change the machine.
const PROC_READ_ONLY: [&str; 5] = [
    "proc/bus",
    "proc/fs",
    "proc/irq",
    "proc/sys",
    "proc/sysrq-trigger",
];
/// Parts of `/proc` by which root could look into the machine.
const PROC_HIDDEN: [&str; 4] = [
    "proc/kcore",
    "proc/keys",
    "proc/timer_list",
    "proc/sched_debug",
];

const STAGING: &str = ".volume";

/// Makes the root of `spec` and moves this process into it.
pub(super) fn build(spec: &Spec, caller: &Caller) -> Result<(), LaunchError> {
    // Permission bits below are meant as they are written.
    umask(Mode::empty());
    let all = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", all)
        .map_err(|error| mount_failed("the private copy of all mounts", "/", error))?;
    let plain = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount(
        "tmpfs",
        &spec.root_mount_point,
        "tmpfs",
        plain,
        c"mode=0755",
    )
    .map_err(|error| mount_failed("memory", "/", error))?;
    let root =
        open_path(&spec.root_mount_point).map_err(|error| mount_failed("memory", "/", error))?;
    let root = Root {
        fd: root,
        path: &spec.root_mount_point,
    };
    root.programs(spec)?;
    root.folders(spec, caller)?;
    root.devices()?;
    root.proc()?;
    root.own_files(spec, caller)?;
    root.bind_read_only(&spec.executable, &spec.executable_target)?;
    for volume in &spec.mounts {
        root.volume(volume, caller)?;
    }
    ensure_directory(root.fd.as_fd(), &spec.working_dir, 0o755)
        .map_err(entry_failed(&spec.working_dir))?;
    let named = rustix::system::sethostname(spec.hostname.as_bytes());
    named.map_err(|error| LaunchError::Identity {
        what: format!("host name {}", spec.hostname),
        source: error.into(),
    })?;
    root.enter(spec.read_only_root)?;
    umask(Mode::from_raw_mode(0o022));
    // A session of its own; it fails only for a process that leads one already.
    let _ = setsid();
    Ok(())
}

struct Root<'a> {
    fd: OwnedFd,
    /// Where it is mounted, seen from the host.
    path: &'a Path,
}

impl Root<'_> {
    fn programs(&self, spec: &Spec) -> Result<(), LaunchError> {
        for name in PROGRAM_FOLDERS {
            let of_host = Path::new("/").join(name);
            if let Ok(link) = std::fs::read_link(&of_host) {
                symlinkat(&link, &self.fd, name).map_err(entry_failed(name))?;
            } else if of_host.is_dir() {
                self.bind_read_only(&of_host, Path::new(name))?;
            }
        }
        for name in PROGRAM_DATA {
            let of_host = Path::new("/").join(name);
            if of_host.exists() {
                self.bind_read_only(&of_host, Path::new(name))?;
            }
        }
        if let Some(further) = &spec.programs {
            self.bind_read_only(further, Path::new(PROGRAMS))?;
        }
        Ok(())
    }

    fn folders(&self, spec: &Spec, caller: &Caller) -> Result<(), LaunchError> {
        for (name, mode) in FOLDERS {
            let made = ensure_directory(self.fd.as_fd(), Path::new(name), 0o755)
                .map_err(entry_failed(name))?;
            reopen(&made)
                .and_then(|folder| Ok(fchmod(folder, Mode::from_raw_mode(mode))?))
                .map_err(entry_failed(name))?;
        }
        if matches!(caller, Caller::Privileged) {
            let home = open_in(self.fd.as_fd(), Path::new("root"), OFlags::DIRECTORY)
                .map_err(entry_failed("root"))?;
            own(&home, Some(spec.identity.uid), Some(spec.identity.gid))
                .map_err(entry_failed("root"))?;
        }
        symlinkat("/run", &self.fd, "var/run").map_err(entry_failed("var/run"))
    }

    fn devices(&self) -> Result<(), LaunchError> {
        let root = self.fd.as_fd();
        let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
        // A pod may hold the capability to make device nodes: none that it makes here opens. The devices below have
        // mounts of their own.
        self.mount("tmpfs", "dev", flags | MountFlags::NODEV, "mode=0755")?;
        for name in DEVICES {
            let of_host = Path::new("/dev").join(name);
            if of_host.exists() {
                let target = Path::new("dev").join(name);
                bind(root, &of_host, &target)
                    .map_err(|error| mount_failed(&of_host, &target, error))?;
            }
        }
        let private = "newinstance,ptmxmode=0666,mode=0620";
        self.mount("devpts", "dev/pts", flags, private)?;
        self.mount("tmpfs", "dev/shm", flags | MountFlags::NODEV, "mode=1777")?;
        let links = [
            ("pts/ptmx", "dev/ptmx"),
            ("/proc/self/fd", "dev/fd"),
            ("/proc/self/fd/0", "dev/stdin"),
            ("/proc/self/fd/1", "dev/stdout"),
            ("/proc/self/fd/2", "dev/stderr"),
        ];
        for (to, name) in links {
            symlinkat(to, &self.fd, name).map_err(entry_failed(name))?;
        }
        Ok(())
    }

    fn proc(&self) -> Result<(), LaunchError> {
        let root = self.fd.as_fd();
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount_new(root, "proc", Path::new("proc"), flags, "").map_err(LaunchError::Proc)?;
        for name in PROC_READ_ONLY {
            let name = Path::new(name);
            let Ok(place) = open_in(root, name, OFlags::empty()) else {
                continue;
            };
            let here = path_of(place.as_fd());
            rustix::mount::mount_bind_recursive(&here, &here)
                .map_err(|error| mount_failed(name, name, error))?;
            restrict(root, name, MountFlags::RDONLY)
                .map_err(|error| mount_failed(name, name, error))?;
        }
        for name in PROC_HIDDEN {
            let name = Path::new(name);
            if let Ok(place) = open_in(root, name, OFlags::empty()) {
                let hidden = rustix::mount::mount_bind("/dev/null", path_of(place.as_fd()));
                hidden.map_err(|error| mount_failed("/dev/null", name, error))?;
            }
        }
        Ok(())
    }

    fn own_files(&self, spec: &Spec, caller: &Caller) -> Result<(), LaunchError> {
        let (uid, gid) = match caller {
            Caller::Privileged => (spec.identity.uid, spec.identity.gid),
            Caller::Ordinary { uid, gid } => (*uid, *gid),
        };
        let known = accounts(&spec.login_names, (uid, gid), &spec.executable_target);
        self.file("etc/passwd", &known.passwd, 0o644)?;
        self.file("etc/group", &known.group, 0o644)?;
        let shadow = self.file("etc/shadow", &known.shadow, 0o600)?;
        if matches!(caller, Caller::Privileged) {
            own(&shadow, Some(uid), Some(gid)).map_err(entry_failed("etc/shadow"))?;
        }
        for file in &spec.root_files {
            self.file(&file.path, &file.content, 0o644)?;
        }
        Ok(())
    }

    fn file(
        &self,
        path: impl AsRef<Path>,
        content: &str,
        mode: u32,
    ) -> Result<OwnedFd, LaunchError> {
        let path = path.as_ref();
        write_file(self.fd.as_fd(), path, content.as_bytes(), mode).map_err(entry_failed(path))
    }

    fn volume(&self, volume: &Mount, caller: &Caller) -> Result<(), LaunchError> {
        let root = self.fd.as_fd();
        let target = volume.target.as_path();
        let mut flags = MountFlags::NODEV;
        if volume.read_only {
            flags |= MountFlags::RDONLY;
        }
        match &volume.source {
            Source::Host { path, sub_path } => {
                let failed = |error| mount_failed(path, target, error);
                let place = open_path(path).map_err(failed)?;
                let place = match sub_path {
                    Some(sub_path) => {
                        below(&place, sub_path).map_err(sub_path_failed(sub_path, target))?
                    }
                    None => place,
                };
                bind(root, &path_of(place.as_fd()), target).map_err(failed)?;
                restrict(root, target, flags).map_err(failed)
            }
            Source::Memory { size } => {
                let size = size
                    .map(|bytes| format!(",size={bytes}"))
                    .unwrap_or_default();
                self.mount(
                    "tmpfs",
                    target,
                    flags | MountFlags::NOSUID,
                    &format!("mode=0777{size}"),
                )
            }
            Source::Files {
                files,
                group,
                sub_path,
            } => {
                let group = group.filter(|_| matches!(caller, Caller::Privileged));
                self.files(files, group, sub_path.as_deref(), target)
            }
        }
    }

    /// A volume of files: written to a memory of its own first, so that nothing lands in a volume below it.
    fn files(
        &self,
        files: &[VolumeFile],
        group: Option<u32>,
        sub: Option<&Path>,
        target: &Path,
    ) -> Result<(), LaunchError> {
        let root = self.fd.as_fd();
        let plain = MountFlags::NOSUID | MountFlags::NODEV;
        self.mount("tmpfs", STAGING, plain, "mode=0755")?;
        let stage =
            open_in(root, Path::new(STAGING), OFlags::DIRECTORY).map_err(entry_failed(target))?;
        for file in files {
            let mode = file.mode | group.map_or(0, |_| 0o440);
            let written = write_file(stage.as_fd(), &file.path, &file.data, mode)
                .map_err(entry_failed(&file.path))?;
            own(&written, None, group).map_err(entry_failed(&file.path))?;
        }
        let shown = sub.unwrap_or_else(|| Path::new("."));
        let shown = open_in(stage.as_fd(), shown, OFlags::empty())
            .map_err(sub_path_failed(shown, target))?;
        let failed = |error| mount_failed("a volume of files", target, error);
        bind(root, &path_of(shown.as_fd()), target).map_err(failed)?;
        restrict(root, target, plain | MountFlags::RDONLY).map_err(failed)?;
        drop((stage, shown));
        let staging = self.path.join(STAGING);
        unmount(&staging, UnmountFlags::DETACH).map_err(|error| failed(error.into()))?;
        std::fs::remove_dir(&staging).map_err(failed)
    }

    /// `pivot_root` leaves no way back, unlike chroot.
    fn enter(self, read_only: bool) -> Result<(), LaunchError> {
        let failed = |error: rustix::io::Errno| mount_failed("the pod's root", "/", error);
        if read_only {
            restrict(self.fd.as_fd(), Path::new("."), MountFlags::RDONLY)
                .map_err(|error| mount_failed("the read-only root", "/", error))?;
        }
        fchdir(&self.fd).map_err(failed)?;
        pivot_root(".", ".").map_err(failed)?;
        unmount(".", UnmountFlags::DETACH).map_err(failed)?;
        std::env::set_current_dir("/").map_err(|error| mount_failed("the pod's root", "/", error))
    }

    fn mount(
        &self,
        kind: &str,
        target: impl AsRef<Path>,
        flags: MountFlags,
        data: &str,
    ) -> Result<(), LaunchError> {
        let target = target.as_ref();
        mount_new(self.fd.as_fd(), kind, target, flags, data)
            .map_err(|error| mount_failed(kind, target, error))
    }

    fn bind_read_only(&self, source: &Path, target: &Path) -> Result<(), LaunchError> {
        let bound = bind(self.fd.as_fd(), source, target);
        let bound = bound.and_then(|()| restrict_tree(self.fd.as_fd(), self.path, target));
        bound.map_err(|error| mount_failed(source, target, error))
    }
}

/// A place opened only as such cannot be changed; this opens it for good.
fn reopen(place: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(
        path_of(place.as_fd()),
        flags,
        Mode::empty(),
    )?)
}

fn open_path(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(
        path,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// A subPath: inside its volume whatever links lie there, made as a directory when it is missing.
fn below(volume: &OwnedFd, sub_path: &Path) -> io::Result<OwnedFd> {
    match open_in(volume.as_fd(), sub_path, OFlags::empty()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            ensure_directory(volume.as_fd(), sub_path, 0o755)
        }
        other => other,
    }
}

fn own(place: &impl AsFd, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    if uid.is_none() && gid.is_none() {
        return Ok(());
    }
    let flags = rustix::fs::AtFlags::EMPTY_PATH;
    Ok(rustix::fs::chownat(place, "", uid, gid, flags)?)
}

fn mount_failed(
    what: impl AsRef<Path>,
    target: impl AsRef<Path>,
    source: impl Into<io::Error>,
) -> LaunchError {
    let what = what.as_ref().display().to_string();
    LaunchError::Mount {
        what,
        target: target.as_ref().to_owned(),
        source: source.into(),
    }
}

fn entry_failed<E: Into<io::Error>>(path: impl AsRef<Path>) -> impl FnOnce(E) -> LaunchError {
    let path: PathBuf = path.as_ref().to_owned();
    move |source| LaunchError::RootEntry {
        path,
        source: source.into(),
    }
}

fn sub_path_failed(sub_path: &Path, target: &Path) -> impl FnOnce(io::Error) -> LaunchError {
    let (sub_path, target) = (sub_path.to_owned(), target.to_owned());
    move |source| LaunchError::SubPath {
        sub_path,
        target,
        source,
    }
}
