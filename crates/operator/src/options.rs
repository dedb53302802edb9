//! The operator's settings, as whoever starts it chooses them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;
use syncline_api::names::Mover;
use syncline_api::report::LONGEST_LOGS;

/// The operator's settings. The default is what the embedded cluster runs with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The images of the movers' pods.
    pub images: MoverImages,
    /// Which movers' resources are looked after.
    pub movers: Movers,
    /// The port that `spec.rsync.port` means when absent: 22 on Kubernetes, 2022 on the embedded cluster.
    pub rsync_port: u16,
    /// The only namespace that is watched; all of them when absent.
    pub watch_namespace: Option<String>,
    /// How many sources transfer at once; zero means no limit.
    pub max_concurrent_syncs: usize,
    /// Where `/metrics`, `/healthz` and `/readyz` are served together, without TLS; nowhere when absent. Port 0 means any.
    pub http: Option<SocketAddr>,
    /// Where `/healthz` and `/readyz` are served alone, without TLS; nowhere when absent. Port 0 means any.
    pub health: Option<SocketAddr>,
    /// Where `/metrics` is served alone, and to whom; nowhere when absent.
    pub metrics: Option<MetricsServer>,
    /// Where schedules are read that name no zone; the system's zone when absent.
    pub zone: Option<TimeZone>,
    /// The lease that must be held to work; without one the operator works at once.
    pub election: Option<Election>,
    /// The namespace that the operator itself lives in, where pull secrets are copied from.
    pub own_namespace: Option<String>,
    /// Names of the Secrets in the operator's own namespace that movers' images are pulled with.
    pub mover_pull_secrets: Vec<String>,
    /// The security context constraints of `OpenShift` that privileged movers may use.
    pub scc_name: String,
    /// What of a mover's log is kept in `status.latestMoverStatus`.
    pub mover_log: MoverLog,
    /// Whether the operator asks the API server what it may not do, and says so.
    pub checks_permissions: bool,
    /// The proxies of the operator's own environment, by variable name, for movers that reach out of the cluster.
    pub proxies: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            images: MoverImages::all("syncline"),
            movers: Movers::default(),
            rsync_port: 22,
            watch_namespace: None,
            max_concurrent_syncs: 0,
            http: None,
            health: None,
            metrics: None,
            zone: None,
            election: None,
            own_namespace: None,
            mover_pull_secrets: Vec::new(),
            scc_name: "volsync-privileged-mover".to_owned(),
            mover_log: MoverLog::default(),
            checks_permissions: false,
            proxies: Vec::new(),
        }
    }
}

/// The image of each mover's pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoverImages {
    /// `spec.rsync`.
    pub rsync: String,
    /// `spec.rsyncTLS`.
    pub rsync_tls: String,
    /// `spec.rclone`.
    pub rclone: String,
    /// `spec.restic`.
    pub restic: String,
    /// `spec.syncthing`.
    pub syncthing: String,
}

impl MoverImages {
    /// One image for all of them.
    pub fn all(image: &str) -> Self {
        Self {
            rsync: image.to_owned(),
            rsync_tls: image.to_owned(),
            rclone: image.to_owned(),
            restic: image.to_owned(),
            syncthing: image.to_owned(),
        }
    }

    /// The image of one mover.
    pub fn of(&self, mover: Mover) -> &str {
        match mover {
            Mover::Rsync => &self.rsync,
            Mover::RsyncTls => &self.rsync_tls,
            Mover::Rclone => &self.rclone,
            Mover::Restic => &self.restic,
            Mover::Syncthing => &self.syncthing,
        }
    }
}

/// The movers that this version can run.
pub const BUILT: [Mover; 2] = [Mover::Rsync, Mover::Rclone];

/// Which resources are the operator's business.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Movers {
    /// All but those with movers that this version lacks and that another controller has already taken up.
    #[default]
    All,
    /// Only resources whose one mover is among these. Every other resource is left alone: no status, event or metric.
    Only(BTreeSet<Mover>),
}

/// Where and to whom metrics are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsServer {
    /// The address. Port 0 means any.
    pub address: SocketAddr,
    /// Whether TLS is spoken.
    pub secure: bool,
    /// Whether the reader's token must allow it (`TokenReview` and `SubjectAccessReview`).
    pub require_rbac: bool,
    /// The certificate; one is made at start when absent.
    pub certificate: Option<CertificateFiles>,
    /// Whether HTTP/2 is offered.
    pub http2: bool,
}

/// The files of a certificate; they are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The folder.
    pub folder: PathBuf,
    /// The certificate's name in it.
    pub certificate: String,
    /// The key's name in it.
    pub key: String,
}

/// What of a mover's log is kept, with the meaning of `VolSync`'s `MOVER_LOG_*` variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MoverLog {
    /// `MOVER_LOG_MAX_BYTES`: the last bytes of the filtered log that are kept.
    pub max_bytes: usize,
    /// `MOVER_LOG_TAIL_LINES`: the last lines of the log that are looked at; all when absent.
    pub tail_lines: Option<i64>,
    /// `MOVER_LOG_DEBUG`: whether all lines are kept instead of those that tell most.
    pub debug: bool,
}

impl Default for MoverLog {
    fn default() -> Self {
        Self {
            max_bytes: LONGEST_LOGS,
            tail_lines: None,
            debug: false,
        }
    }
}

impl MoverLog {
    /// Whether the log has to be read from the pod, because the mover's report cannot hold what is asked for.
    pub fn exceeds_reports(&self) -> bool {
        self.debug || self.tail_lines.is_some() || self.max_bytes > LONGEST_LOGS
    }
}

/// The lease by which several operators agree on the one that works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Election {
    /// The lease's namespace.
    pub namespace: String,
    /// The lease's name.
    pub name: String,
    /// Who this operator is among all that ask for the lease; no two may share it.
    pub identity: String,
    /// How long a lease lasts, and how often it is renewed.
    pub timing: Timing,
}

impl Election {
    /// The lease that `VolSync` itself takes, so that in its namespace never both of them work.
    pub const VOLSYNC_LEASE: &'static str = "b95b3104.backube";
}

/// How long a lease lasts, and how often it is renewed. The default is `VolSync`'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Others take the lease when it has not changed for as long.
    pub lease: Duration,
    /// The holder stops working when it could not renew for as long; shorter than `lease`.
    pub renew: Duration,
    /// How long to wait between two attempts.
    pub retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(137),
            renew: Duration::from_secs(107),
            retry: Duration::from_secs(26),
        }
    }
}
