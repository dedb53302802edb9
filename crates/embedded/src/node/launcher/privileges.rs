//! Namespaces, identity and capabilities.
//!
//! root makes the namespaces directly. An ordinary user makes two nested user namespaces: the outer maps the caller to
//! root and makes the mounts, the inner maps back to the caller's own uid and gid, so that programs which look at their
//! uid (sshd above all) see the ordinary user that they are, and do not try to change groups.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, FdFlags};
use rustix::process::{Gid, Uid, getegid, geteuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, UnshareFlags, capabilities, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::error::LaunchError;
use super::spec::{Capabilities, Identity};

/// Who started the launcher, and thereby what a container can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// root with the capability to make mounts: containers become whom they ask to be.
    Privileged,
    /// Anybody else: containers run as this user.
    Ordinary {
        /// The caller's.
        uid: u32,
        /// The caller's.
        gid: u32,
    },
}

impl Caller {
    /// The caller of this process.
    pub(super) fn of_this_process() -> Self {
        let may_mount =
            capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN));
        if geteuid().is_root() && may_mount {
            Self::Privileged
        } else {
            Self::Ordinary {
                uid: geteuid().as_raw(),
                gid: getegid().as_raw(),
            }
        }
    }

    /// As arguments of the inner stage, which no longer sees it.
    pub(super) fn to_arguments(&self) -> Vec<String> {
        match self {
            Self::Privileged => Vec::new(),
            Self::Ordinary { uid, gid } => vec![format!("--caller={uid}:{gid}")],
        }
    }

    /// Reads [`Self::to_arguments`].
    pub(super) fn from_arguments(arguments: impl Iterator<Item = String>) -> Self {
        for argument in arguments {
            let ids = argument
                .strip_prefix("--caller=")
                .and_then(|ids| ids.split_once(':'));
            if let Some((Ok(uid), Ok(gid))) = ids.map(|(uid, gid)| (uid.parse(), gid.parse())) {
                return Self::Ordinary { uid, gid };
            }
        }
        Self::Privileged
    }
}

/// The control socket, which is the launcher's standard input.
pub(super) fn control_socket() -> io::Result<OwnedFd> {
    io::stdin().as_fd().try_clone_to_owned()
}

/// Keeps descriptors that whoever started the node left open from reaching the container: a folder among them would be
/// a way out of its root.
pub(super) fn keep_stray_descriptors() -> io::Result<()> {
    let listing = std::fs::read_dir("/proc/self/fd")?;
    let open: Vec<i32> = listing
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    for number in open.into_iter().filter(|number| *number > 2) {
        #[expect(
            unsafe_code,
            reason = "only the flag of a number that is or was open is set; a closed one gives EBADF"
        )]
        // SAFETY: the descriptor is used for one fcntl that neither reads, writes nor closes it.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        match rustix::io::fcntl_setfd(descriptor, FdFlags::CLOEXEC) {
            // The listing's own.
            Ok(()) | Err(Errno::BADF) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Makes the namespaces of a container; its first process is the next child.
pub(super) fn enter_namespaces(caller: &Caller) -> Result<(), LaunchError> {
    if let Caller::Ordinary { uid, gid } = caller {
        user_namespace((0, *uid), (0, *gid)).map_err(|error| forbidden(&error))?;
    }
    let own =
        UnshareFlags::NEWNS | UnshareFlags::NEWPID | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    unshare(own).map_err(|error| match caller {
        Caller::Privileged => LaunchError::Namespaces(error),
        Caller::Ordinary { .. } => forbidden(&error),
    })
}

/// Enters a new user namespace in which the first id of each pair stands for the second of the present one.
fn user_namespace(uid: (u32, u32), gid: (u32, u32)) -> io::Result<()> {
    unshare(UnshareFlags::NEWUSER)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{} {} 1", uid.0, uid.1))?;
    fs::write("/proc/self/gid_map", format!("{} {} 1", gid.0, gid.1))
}

/// `unshare(2)` for this process.
#[expect(
    unsafe_code,
    reason = "rustix marks the call unsafe for the sake of UnshareFlags::FILES alone"
)]
fn unshare(flags: UnshareFlags) -> io::Result<()> {
    debug_assert!(!flags.contains(UnshareFlags::FILES));
    // SAFETY: the file descriptor table stays shared, which is the only thing that the contract asks.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(io::Error::from)
}

/// Finds the switch by which this machine forbids user namespaces.
fn forbidden(error: &io::Error) -> LaunchError {
    let switch = |name: &str| {
        fs::read_to_string(format!("/proc/sys/{name}")).map(|value| value.trim().to_owned())
    };
    let (why, cure) = if switch("kernel/unprivileged_userns_clone").is_ok_and(|value| value == "0")
    {
        (
            "kernel.unprivileged_userns_clone is 0",
            "have root run `sysctl -w kernel.unprivileged_userns_clone=1`",
        )
    } else if switch("user/max_user_namespaces").is_ok_and(|value| value == "0") {
        (
            "user.max_user_namespaces is 0",
            "have root run `sysctl -w user.max_user_namespaces=10000`",
        )
    } else if switch("kernel/apparmor_restrict_unprivileged_userns").is_ok_and(|value| value == "1")
    {
        (
            "AppArmor restricts them (kernel.apparmor_restrict_unprivileged_userns is 1)",
            "have root add an AppArmor profile with `userns,` for this program, or run `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`",
        )
    } else if error.kind() == io::ErrorKind::StorageFull {
        (
            "the limit user.max_user_namespaces is reached",
            "raise it with sysctl",
        )
    } else {
        (
            "this machine or the container around it forbids them",
            "allow unshare(CLONE_NEWUSER) in its seccomp profile or security module",
        )
    };
    LaunchError::UserNamespace {
        cause: format!("{error} ({why})"),
        cure: cure.to_owned(),
    }
}

/// Turns pid 1 into the user that the container runs as, with no more capabilities than it may have.
pub(super) fn become_container_user(
    identity: &Identity,
    caller: &Caller,
) -> Result<(), LaunchError> {
    let failed = |what: String| {
        move |source: rustix::io::Errno| LaunchError::Identity {
            what,
            source: source.into(),
        }
    };
    if let Caller::Ordinary { uid, gid } = caller {
        user_namespace((*uid, 0), (*gid, 0)).map_err(|error| forbidden(&error))?;
    }
    let kept = kept_capabilities(&identity.capabilities)?;
    for (_, capability) in CapabilitySet::all().iter_names() {
        if !kept.contains(capability) {
            // A kernel that does not know a capability cannot drop it, and does not grant it.
            let _ = remove_capability_from_bounding_set(capability);
        }
    }
    let mut stays_root = true;
    if matches!(caller, Caller::Privileged) {
        let groups: Vec<Gid> = identity.groups.iter().copied().map(Gid::from_raw).collect();
        match set_thread_groups(&groups) {
            // A user namespace that forbids setgroups leaves no groups to drop.
            Err(rustix::io::Errno::PERM) if groups.is_empty() => {}
            other => other.map_err(failed("supplementary groups".to_owned()))?,
        }
        let gid = Gid::from_raw(identity.gid);
        set_thread_res_gid(gid, gid, gid).map_err(failed(format!("group id {}", identity.gid)))?;
        let uid = Uid::from_raw(identity.uid);
        set_thread_res_uid(uid, uid, uid).map_err(failed(format!("user id {}", identity.uid)))?;
        stays_root = uid.is_root();
    } else if !geteuid().is_root() {
        stays_root = false;
    }
    let kept = if stays_root {
        kept
    } else {
        CapabilitySet::empty()
    };
    let permitted = capabilities(None)
        .map_err(failed("capabilities".to_owned()))?
        .permitted
        & kept;
    let sets = CapabilitySets {
        effective: permitted,
        permitted,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).map_err(failed("capabilities".to_owned()))?;
    if identity.no_new_privileges {
        set_no_new_privs(true).map_err(failed("no_new_privs".to_owned()))?;
    }
    Ok(())
}

/// The capabilities of these names.
fn kept_capabilities(wanted: &Capabilities) -> Result<CapabilitySet, LaunchError> {
    match wanted {
        Capabilities::All => Ok(CapabilitySet::all()),
        Capabilities::Only(names) => names.iter().try_fold(CapabilitySet::empty(), |kept, name| {
            let one = CapabilitySet::from_name(name)
                .ok_or_else(|| LaunchError::UnknownCapability(name.clone()))?;
            Ok(kept | one)
        }),
    }
}
