//! What the node tells the launcher about one container.
//!
//! It travels over the launcher's control socket, never through a file or argv: it holds Secrets.

use std::io::{Read, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where a pod has the programs that it was given beside the host's own.
pub(crate) const PROGRAMS: &str = "/opt/programs";

/// Everything that makes one container's process and its root.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Spec {
    /// An empty directory of the host on which the root is mounted, inside the container's own mount namespace.
    pub(crate) root_mount_point: PathBuf,
    /// The image's program on the host.
    pub(crate) executable: PathBuf,
    /// Where it appears in the root, for instance `/syncline`.
    pub(crate) executable_target: PathBuf,
    /// A folder of the host with further programs; the root has it as [`PROGRAMS`].
    pub(crate) programs: Option<PathBuf>,
    /// Program and arguments, already expanded.
    pub(crate) argv: Vec<String>,
    /// The whole environment.
    pub(crate) env: Vec<(String, String)>,
    /// Absolute path inside the root; made when it is not there.
    pub(crate) working_dir: PathBuf,
    /// Host name in the container's own UTS namespace.
    pub(crate) hostname: String,
    /// Volumes, parents before children.
    pub(crate) mounts: Vec<Mount>,
    /// Small files of the root itself, for instance `/etc/hosts`.
    pub(crate) root_files: Vec<RootFile>,
    /// The root cannot be written, as `readOnlyRootFilesystem` asks.
    pub(crate) read_only_root: bool,
    /// Who the process is.
    pub(crate) identity: Identity,
    /// The user names that map to the container's uid.
    pub(crate) login_names: Vec<String>,
}

/// Who the process is and what it may do.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// `runAsUser`; an ordinary caller cannot be anybody but itself, and ignores it.
    pub(crate) uid: u32,
    /// `runAsGroup`.
    pub(crate) gid: u32,
    /// `supplementalGroups` and `fsGroup`.
    pub(crate) groups: Vec<u32>,
    /// The capabilities that stay, by their Kubernetes names (`CHOWN`), or all of them.
    pub(crate) capabilities: Capabilities,
    /// `allowPrivilegeEscalation: false`.
    pub(crate) no_new_privileges: bool,
}

/// The capabilities that stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Capabilities {
    /// A privileged container.
    All,
    /// These, by their names without `CAP_`.
    Only(Vec<String>),
}

impl Default for Capabilities {
    fn default() -> Self {
        Self::Only(Vec::new())
    }
}

/// One volume in the root.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Mount {
    /// Absolute path inside the root.
    pub(crate) target: PathBuf,
    /// What is seen there.
    pub(crate) source: Source,
    /// Cannot be written.
    pub(crate) read_only: bool,
}

/// What a volume shows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Source {
    /// A directory or file of the host, or something below it that no symbolic link may lead out of.
    Host {
        /// On the host.
        path: PathBuf,
        /// Below it; made as a directory when it is not there.
        sub_path: Option<PathBuf>,
    },
    /// Memory.
    Memory {
        /// Limit in bytes.
        size: Option<u64>,
    },
    /// Files made from API objects, Secrets above all,, in memory.
    Files {
        /// The files.
        files: Vec<VolumeFile>,
        /// Group that owns them (`fsGroup`).
        group: Option<u32>,
        /// Only this file or folder of them is mounted.
        sub_path: Option<PathBuf>,
    },
}

/// A file of a volume that is made from API objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VolumeFile {
    /// Relative to the volume.
    pub(crate) path: PathBuf,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Content.
    #[serde(with = "base64_bytes")]
    pub(crate) data: Vec<u8>,
}

/// A file of the root itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RootFile {
    /// Absolute path inside the root.
    pub(crate) path: PathBuf,
    /// Content.
    pub(crate) content: String,
}

/// What the launcher tells the node, one JSON object a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase")]
pub(crate) enum Report {
    /// The container's process runs.
    Started,
    /// It could not be started; the message names cause and cure.
    Failed {
        /// Cause, object and cure.
        message: String,
    },
}

impl Report {
    /// Writes one line.
    pub(crate) fn send(&self, mut to: impl Write) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(self).map_err(std::io::Error::other)?;
        line.push(b'\n');
        to.write_all(&line)?;
        to.flush()
    }
}

/// The most that a spec may measure, so that a broken length is noticed: etcd's limit of one object, many times over.
const MAXIMUM_SPEC_BYTES: usize = 64 * 1024 * 1024;

impl Spec {
    /// The bytes that go over the control socket: a length in four bytes, then JSON.
    pub(crate) fn to_frame(&self) -> std::io::Result<Vec<u8>> {
        let body = serde_json::to_vec(self).map_err(std::io::Error::other)?;
        let length = u32::try_from(body.len()).map_err(std::io::Error::other)?;
        let mut frame = length.to_be_bytes().to_vec();
        frame.extend_from_slice(&body);
        Ok(frame)
    }

    /// Reads what [`Self::to_frame`] wrote.
    pub(crate) fn read_from(mut from: impl Read) -> std::io::Result<Self> {
        let mut length = [0_u8; 4];
        from.read_exact(&mut length)?;
        let length = usize::try_from(u32::from_be_bytes(length)).map_err(std::io::Error::other)?;
        if length > MAXIMUM_SPEC_BYTES {
            return Err(std::io::Error::other(format!(
                "a container's description of {length} bytes is too long"
            )));
        }
        let mut body = vec![0; length];
        from.read_exact(&mut body)?;
        serde_json::from_slice(&body).map_err(std::io::Error::other)
    }
}

mod base64_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map_err(serde::de::Error::custom)
    }
}
