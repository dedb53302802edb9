//! The clusters that tests run on: the embedded one, and a real Kubernetes.
//!
//! A run is about one of them: the real one when `SYNCLINE_E2E_KUBECONFIG` names its kubeconfig, else the embedded one.

mod embedded;
mod process;
mod real;

use std::ffi::OsString;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Weak};

use anyhow::{Context, Result, bail};
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};

pub use embedded::Embedded;
pub use process::Processes;
pub use real::{KUBECONFIG, OPERATOR, Real, SYSTEM};

/// What a cluster serves once its operator can work.
const OUR_KINDS: [&str; 2] = ["replicationsources", "replicationdestinations"];

/// The two kinds of cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `syncline up`.
    Embedded,
    /// Kubernetes.
    Real,
}

impl Kind {
    /// What the present run is about.
    pub fn of_this_run() -> Self {
        if Real::is_wanted() {
            Self::Real
        } else {
            Self::Embedded
        }
    }
}

/// Who runs the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Whoever runs the tests.
    Caller,
    /// A user without any privilege (whoever runs the tests, when that is one already).
    Ordinary,
}

/// A cluster that answers, with an operator at work.
#[derive(Debug)]
pub enum Cluster {
    /// A `syncline up` of the tests' own.
    Embedded(Embedded),
    /// A Kubernetes that was there before.
    Real(Real),
}

/// The shared clusters: embedded for the caller, embedded for an ordinary user, real.
static SHARED: tokio::sync::Mutex<[Weak<Cluster>; 3]> =
    tokio::sync::Mutex::const_new([Weak::new(), Weak::new(), Weak::new()]);

impl Cluster {
    /// The cluster that all scenarios share: connected to or started by the first, let go with the last that holds it.
    /// An ordinary user's is always an embedded one.
    pub async fn shared(who: Who) -> Result<Arc<Self>> {
        let mut shared = SHARED.lock().await;
        let [caller, ordinary, real] = &mut *shared;
        let slot = match (who, Kind::of_this_run()) {
            (Who::Ordinary, _) => ordinary,
            (Who::Caller, Kind::Embedded) => caller,
            (Who::Caller, Kind::Real) => real,
        };
        if let Some(cluster) = slot.upgrade() {
            return Ok(cluster);
        }
        let cluster = match (who, Kind::of_this_run()) {
            (Who::Caller, Kind::Real) => Self::Real(Real::connect().await?),
            _ => Self::start(who).await?,
        };
        let cluster = Arc::new(cluster);
        *slot = Arc::downgrade(&cluster);
        Ok(cluster)
    }

    /// An embedded cluster with this `syncline`, its data in a new folder under `parent`, and this rclone for its pods,
    /// if any.
    pub async fn start_with(
        binary: PathBuf,
        parent: &Path,
        who: Who,
        rclone: Option<&Path>,
    ) -> Result<Self> {
        Embedded::start_with(binary, parent, who, rclone)
            .await
            .map(Self::Embedded)
    }

    /// An embedded cluster of one's own, answering.
    pub async fn start(who: Who) -> Result<Self> {
        Embedded::start(who).await.map(Self::Embedded)
    }

    /// The embedded cluster, for what is about that cluster itself.
    pub fn embedded(&self) -> Result<&Embedded> {
        match self {
            Self::Embedded(cluster) => Ok(cluster),
            Self::Real(_) => bail!("this is about the embedded cluster: give the scenario a need"),
        }
    }

    /// The real cluster, for what is about that cluster itself.
    pub fn real(&self) -> Result<&Real> {
        match self {
            Self::Real(cluster) => Ok(cluster),
            Self::Embedded(_) => bail!("this is about a real cluster: give the scenario a need"),
        }
    }

    /// Which kind it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Embedded(_) => Kind::Embedded,
            Self::Real(_) => Kind::Real,
        }
    }

    /// A client for the cluster, as anybody with its kubeconfig has it.
    pub async fn client(&self) -> Result<Client> {
        client_of(&self.kubeconfig()).await
    }

    /// The kubeconfig of somebody who may do everything.
    pub fn kubeconfig(&self) -> PathBuf {
        match self {
            Self::Embedded(cluster) => cluster.kubeconfig(),
            Self::Real(cluster) => cluster.kubeconfig().to_owned(),
        }
    }

    /// A folder for the tests' own files, removed with the cluster.
    pub fn scratch(&self) -> &Path {
        match self {
            Self::Embedded(cluster) => cluster.scratch(),
            Self::Real(cluster) => cluster.scratch(),
        }
    }

    /// The user and group that own what the cluster's pods write.
    pub fn owner(&self) -> (u32, u32) {
        match self {
            Self::Embedded(cluster) => cluster.owner(),
            Self::Real(_) => (0, 0),
        }
    }

    /// Whether the cluster's pods run as whoever runs the tests.
    pub fn is_of_caller(&self) -> bool {
        self.owner().0 == rustix::process::geteuid().as_raw()
    }

    /// A `syncline` command for this cluster, run by the cluster's user.
    pub fn syncline<S: Into<OsString>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        match self {
            Self::Embedded(cluster) => cluster.syncline(arguments),
            Self::Real(cluster) => {
                let mut command = Command::new(cluster.binary());
                command
                    .args(arguments.into_iter().map(Into::into))
                    .env("KUBECONFIG", cluster.kubeconfig())
                    .env("HOME", cluster.scratch())
                    .env("NO_COLOR", "1");
                command
            }
        }
    }

    /// Asks the operator's own HTTP server for a page: status line, headers and body as they come.
    pub fn operator_page(&self, path: &str) -> Result<String> {
        match self {
            Self::Embedded(cluster) => cluster.operator_page(path),
            Self::Real(cluster) => cluster.operator_page(path),
        }
    }

    /// The processes of pods whose command line `chosen` picks: on a real cluster of the pods with these uids, on the
    /// embedded one of all.
    pub fn processes(&self, pods: &[String], chosen: impl Fn(&str) -> bool) -> Result<Processes> {
        let found = match self {
            Self::Embedded(cluster) => process::descendants(cluster.pid()?)?,
            Self::Real(_) => process::of_pods(pods)?,
        };
        Ok(Processes::chosen(found, chosen))
    }

    /// The operator's last log lines that speak of one of these namespaces, and all errors.
    pub async fn log_about(&self, namespaces: &[String], lines: usize) -> String {
        let text = match self {
            Self::Embedded(cluster) => cluster.log_tail(usize::MAX),
            Self::Real(cluster) => cluster.operator_log().await,
        };
        last_lines(&text, lines, |line| {
            line.contains("ERROR") || namespaces.iter().any(|namespace| line.contains(namespace))
        })
    }
}

/// The last lines of a text that are wanted.
fn last_lines(text: &str, lines: usize, wanted: impl Fn(&str) -> bool) -> String {
    let all: Vec<&str> = text.lines().filter(|line| wanted(line)).collect();
    all.get(all.len().saturating_sub(lines)..)
        .unwrap_or_default()
        .join("\n")
}

async fn client_of(kubeconfig: &Path) -> Result<Client> {
    let read = Kubeconfig::read_from(kubeconfig)
        .with_context(|| format!("cannot read {}", kubeconfig.display()))?;
    Ok(Client::try_from(config_of(read).await?)?)
}

/// How to reach the cluster of a kubeconfig. The proxy that the environment names has no part in the way to a cluster
/// that is near; one that the kubeconfig names has.
pub async fn config_of(kubeconfig: Kubeconfig) -> Result<kube::Config> {
    let names_proxy = kubeconfig
        .clusters
        .iter()
        .filter_map(|named| named.cluster.as_ref())
        .any(|cluster| cluster.proxy_url.is_some());
    let options = KubeConfigOptions::default();
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    if !names_proxy && is_near(config.cluster_url.host().unwrap_or_default()) {
        config.proxy_url = None;
    }
    Ok(config)
}

/// Whether a server is on this machine or its own network, where the proxy that the environment names has no part.
fn is_near(host: &str) -> bool {
    match host.trim_matches(['[', ']']).parse() {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_private(),
        Ok(IpAddr::V6(address)) => address.is_loopback() || address.is_unique_local(),
        Err(_) => host == "localhost",
    }
}

/// The `syncline` under test: `$SYNCLINE_BIN`, else the one built beside the running test.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("SYNCLINE_BIN") {
        return fs::canonicalize(PathBuf::from(&path))
            .with_context(|| format!("SYNCLINE_BIN={}", path.display()));
    }
    let own = std::env::current_exe()?;
    let built = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("syncline"))
        .find(|path| path.is_file());
    match built {
        Some(path) => Ok(path),
        None => bail!(
            "there is no `syncline` near {}: build it first (`cargo build -p syncline-cli`), or name one in SYNCLINE_BIN",
            own.display()
        ),
    }
}
