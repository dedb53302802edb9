//! Names of everything that the operator makes, derived from the replication's name as `VolSync` derives them, because
//! people and their manifests refer to them.
//!
//! Jobs, Services and label values end at 63 characters: a longer name is replaced by its CRC-32. Other objects' names
//! are never shortened, so that an object name above [`LONGEST_OBJECT_NAME`] is the API server's to refuse.

use jiff::Timestamp;

/// Longest name of a Job, of a Service and longest value of a label.
pub const LONGEST_LABEL: usize = 63;
/// Longest name of any other object.
pub const LONGEST_OBJECT_NAME: usize = 253;

/// The two ends of a replication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The end that sends.
    Source,
    /// The end that receives.
    Destination,
}

impl Side {
    /// How names spell it: `src` or `dst`.
    pub const fn infix(self) -> &'static str {
        match self {
            Self::Source => "src",
            Self::Destination => "dst",
        }
    }
}

/// The movers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mover {
    /// rsync over ssh.
    Rsync,
    /// rsync over TLS.
    RsyncTls,
    /// rclone.
    Rclone,
    /// restic.
    Restic,
    /// Syncthing.
    Syncthing,
}

impl Mover {
    /// Every mover, in the order of the API.
    pub const ALL: [Self; 5] = [
        Self::Rsync,
        Self::RsyncTls,
        Self::Rclone,
        Self::Restic,
        Self::Syncthing,
    ];

    /// The field of `spec` that chooses it.
    pub const fn field(self) -> &'static str {
        match self {
            Self::Rsync => "rsync",
            Self::RsyncTls => "rsyncTLS",
            Self::Rclone => "rclone",
            Self::Restic => "restic",
            Self::Syncthing => "syncthing",
        }
    }

    /// How object names and container names spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rsync => "rsync",
            Self::RsyncTls => "rsync-tls",
            Self::Rclone => "rclone",
            Self::Restic => "restic",
            Self::Syncthing => "syncthing",
        }
    }
}

/// Name of a mover's Job: `volsync-rsync-src-<name>`; restic's have no mover in it, Syncthing's no side.
pub fn job(mover: Mover, side: Side, name: &str) -> String {
    shortened(&mover_prefix(mover, side), name)
}

/// Name of the Service that leads to a mover: `volsync-rsync-dst-<name>`.
///
/// Unlike other names, a Service's may not contain a dot: a replication's name that does is replaced like one that is
/// too long, instead of being refused by the API server.
pub fn service(mover: Mover, side: Side, name: &str) -> String {
    let prefix = mover_prefix(mover, side);
    if name.contains('.') {
        format!("{prefix}{}", checksum(name))
    } else {
        shortened(&prefix, name)
    }
}

/// Name of the volume that belongs to a replication: the image of a source, or the volume that a destination makes.
pub fn data_pvc(mover: Mover, side: Side, name: &str) -> String {
    let suffix = match (mover, side) {
        (_, Side::Source) => "src",
        (Mover::Rclone | Mover::Restic, Side::Destination) => "dest",
        (Mover::Rsync | Mover::RsyncTls | Mover::Syncthing, Side::Destination) => "dst",
    };
    format!("volsync-{name}-{suffix}")
}

/// Name of the `VolumeSnapshot` that a source's image is made from; the same as that of the image's volume.
pub fn source_snapshot(name: &str) -> String {
    data_pvc(Mover::Rsync, Side::Source, name)
}

/// Name of the Secret that ssh keys are made in: `volsync-rsync-dst-main-<name>`.
pub fn ssh_keys_main(side: Side, name: &str) -> String {
    format!("volsync-rsync-{}-main-{name}", side.infix())
}

/// Name of the Secret with the source's part of those keys: `volsync-rsync-dst-src-<name>`.
pub fn ssh_keys_source(side: Side, name: &str) -> String {
    format!("volsync-rsync-{}-src-{name}", side.infix())
}

/// Name of the Secret with the destination's part of those keys: `volsync-rsync-dst-dest-<name>`.
pub fn ssh_keys_destination(side: Side, name: &str) -> String {
    format!("volsync-rsync-{}-dest-{name}", side.infix())
}

/// Name of the service account, role and role binding of a mover: `volsync-src-<name>`.
pub fn service_account(side: Side, name: &str) -> String {
    format!("volsync-{}-{name}", side.infix())
}

/// Name of the copy of a Secret with which movers' images are pulled: `volsync-pull-<CRC-32>`.
pub fn pull_secret(name: &str) -> String {
    format!("volsync-pull-{}", checksum(name))
}

/// Value of the label [`crate::labels::NAME`]: `src-<name>`.
pub fn label_value(side: Side, name: &str) -> String {
    shortened(&format!("{}-", side.infix()), name)
}

/// Name of an image made of a destination's volume at a time: `<pvc>-<YYYYMMDDHHMMSS>`, in UTC.
///
/// A volume's name that leaves no room for the time is cut and told apart by its CRC-32.
pub fn snapshot(pvc: &str, now: Timestamp) -> String {
    let time = now.strftime("%Y%m%d%H%M%S");
    let whole = format!("{pvc}-{time}");
    if whole.len() <= LONGEST_OBJECT_NAME {
        return whole;
    }
    let checksum = checksum(pvc);
    let room = LONGEST_OBJECT_NAME.saturating_sub(whole.len() - pvc.len() + checksum.len() + 1);
    let start = crate::report::head(pvc, room).trim_end_matches(['-', '.']);
    format!("{start}-{checksum}-{time}")
}

fn mover_prefix(mover: Mover, side: Side) -> String {
    match mover {
        Mover::Restic => format!("volsync-{}-", side.infix()),
        Mover::Syncthing => "volsync-".to_owned(),
        Mover::Rsync | Mover::RsyncTls | Mover::Rclone => {
            format!("volsync-{}-{}-", mover.as_str(), side.infix())
        }
    }
}

/// `prefix` and `name`, or `prefix` and the checksum of `name` when both do not fit into a label.
fn shortened(prefix: &str, name: &str) -> String {
    if prefix.len() + name.len() <= LONGEST_LABEL {
        format!("{prefix}{name}")
    } else {
        format!("{prefix}{}", checksum(name))
    }
}

/// CRC-32 (IEEE) in eight lower-case hexadecimal digits.
pub fn checksum(name: &str) -> String {
    format!("{:08x}", crc32fast::hash(name.as_bytes()))
}
