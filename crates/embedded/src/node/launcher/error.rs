//! Why a container could not be started.

use std::io;
use std::path::PathBuf;

/// Why a container could not be started: cause, object and cure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    /// The description did not arrive.
    #[error("cannot read the container's description from the node: {0}")]
    Description(#[source] io::Error),
    /// The kernel refuses user namespaces.
    #[error("cannot make a user namespace for the pod: {cause}; {cure}, or run syncline as root")]
    UserNamespace {
        /// What the kernel said, and which switch made it say so.
        cause: String,
        /// What to change.
        cure: String,
    },
    /// The kernel refuses the other namespaces.
    #[error(
        "cannot give the pod namespaces of its own: {0}; syncline needs a kernel with mount, pid, ipc and uts namespaces, and CAP_SYS_ADMIN when it runs as root inside a container"
    )]
    Namespaces(#[source] io::Error),
    /// `/proc` cannot be mounted anew.
    #[error(
        "cannot mount /proc for the pod: {0}; parts of /proc are hidden on this machine, as container runtimes do: run syncline outside of that container, or as its root with CAP_SYS_ADMIN"
    )]
    Proc(#[source] io::Error),
    /// A mount failed.
    #[error("cannot mount {what} at {target} in the pod's root: {source}")]
    Mount {
        /// What was to be mounted.
        what: String,
        /// Where.
        target: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file or folder of the root could not be made.
    #[error("cannot make {path} in the pod's root: {source}")]
    RootEntry {
        /// Which.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The subPath of a volume leads out of it, or is not there.
    #[error(
        "subPath {sub_path} of the volume at {target} cannot be used: {source}; it must stay inside its volume"
    )]
    SubPath {
        /// As the pod names it.
        sub_path: PathBuf,
        /// The mount path.
        target: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The process could not become what the pod asks for.
    #[error("cannot set {what} of the container's process: {source}")]
    Identity {
        /// For instance `user id 1000`.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A capability that Linux does not have.
    #[error(
        "unknown capability {0:?} in securityContext.capabilities; names are those of capabilities(7) without CAP_"
    )]
    UnknownCapability(String),
    /// The program is not in the root.
    #[error(
        "exec: {program:?}: {source}; a pod of the embedded cluster sees its image's program and the host's program folders"
    )]
    Exec {
        /// The first word of the command.
        program: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The launcher could not call itself or watch its child.
    #[error("the pod launcher failed while it {what}: {source}")]
    Launcher {
        /// For instance `started the container's first process`.
        what: &'static str,
        /// The cause.
        source: io::Error,
    },
}
