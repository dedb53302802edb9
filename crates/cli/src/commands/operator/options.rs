//! From flags and environment to the operator's options. Pure, but for what [`Surroundings::of_process`] reads.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::Duration;

use syncline_api::GoDuration;
use syncline_api::names::Mover;
use syncline_operator::leader;
use syncline_operator::options::{
    BUILT, CertificateFiles, Election, MetricsServer, MoverImages, MoverLog, Movers, Options,
    Timing,
};

use super::flags::{Arguments, Images};
use crate::failure::{Failure, Kind};

/// The image of this release, for movers when nothing else is said.
const OWN_IMAGE: &str = concat!("ghcr.io/syncline/syncline:", env!("CARGO_PKG_VERSION"));
/// Where a pod finds the name of its own namespace.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
/// Variables that movers which reach out of the cluster are given, as VolSync gives them.
const PROXIES: [&str; 6] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "NO_PROXY",
    "no_proxy",
];
const VARIABLES: [&str; 4] = [
    "VOLSYNC_NAMESPACE",
    "MOVER_LOG_MAX_BYTES",
    "MOVER_LOG_TAIL_LINES",
    "MOVER_LOG_DEBUG",
];

/// What the operator finds where it runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Surroundings {
    /// Environment variables; empty ones count as absent.
    pub(super) variables: BTreeMap<String, String>,
    /// The namespace of the pod it runs in.
    pub(super) pod_namespace: Option<String>,
    /// The name of its host: in a pod, the pod's.
    pub(super) host: String,
    /// Whether this machine knows IPv6, whose unspecified address serves IPv4 as well.
    pub(super) ipv6: bool,
}

impl Surroundings {
    pub(super) fn of_process() -> Self {
        let variables = VARIABLES.iter().chain(&PROXIES).filter_map(|name| {
            let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
            Some(((*name).to_owned(), value))
        });
        Self {
            variables: variables.collect(),
            pod_namespace: std::fs::read_to_string(NAMESPACE_FILE)
                .ok()
                .map(|text| text.trim().to_owned())
                .filter(|name| !name.is_empty()),
            host: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            ipv6: UdpSocket::bind("[::]:0").is_ok(),
        }
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }
}

/// The options, and what is to be said in the log of flags that change nothing here.
pub(super) fn options(
    arguments: &Arguments,
    surroundings: &Surroundings,
) -> Result<(Options, Vec<String>), Failure> {
    let own_namespace = surroundings
        .variable("VOLSYNC_NAMESPACE")
        .map(str::to_owned)
        .or_else(|| surroundings.pod_namespace.clone());
    let mut remarks = idle_flags(arguments);
    let defaults = Options::default();
    let options = Options {
        images: images(&arguments.images),
        movers: movers(&arguments.movers)?,
        rsync_port: arguments.rsync_port,
        watch_namespace: some(arguments.watch_namespace.as_ref()),
        max_concurrent_syncs: arguments
            .max_concurrent_syncs
            .unwrap_or(defaults.max_concurrent_syncs),
        http: arguments.http,
        health: address(
            &arguments.serving.health_probe_bind_address,
            "--health-probe-bind-address",
            surroundings,
        )?,
        metrics: metrics(arguments, surroundings)?,
        election: election(arguments, own_namespace.as_deref(), surroundings)?,
        own_namespace,
        mover_pull_secrets: arguments
            .pods
            .mover_image_pull_secrets
            .iter()
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .collect(),
        scc_name: arguments.pods.scc_name.clone(),
        mover_log: mover_log(surroundings, &mut remarks),
        proxies: PROXIES
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), surroundings.variable(name)?.to_owned())))
            .collect(),
        checks_permissions: true,
        ..defaults
    };
    Ok((options, remarks))
}

/// What is printed when the operator starts.
pub(super) fn greeting(options: &Options) -> String {
    let mut parts = Vec::new();
    if let Some(address) = options.http {
        parts.push(format!("metrics and health on http://{address}"));
    }
    if let Some(metrics) = &options.metrics {
        let scheme = if metrics.secure { "https" } else { "http" };
        parts.push(format!("metrics on {scheme}://{}", metrics.address));
    }
    if let Some(address) = options.health {
        parts.push(format!("health on http://{address}"));
    }
    if let Some(election) = &options.election {
        parts.push(format!("lease {}/{}", election.namespace, election.name));
    }
    if parts.is_empty() {
        parts.push("no metrics, no health, no lease".to_owned());
    }
    format!("operator: {}", parts.join(", "))
}

fn some(text: Option<&String>) -> Option<String> {
    text.filter(|text| !text.is_empty()).cloned()
}

/// A mover's own flag or variable comes first, then the image for all of them.
fn images(given: &Images) -> MoverImages {
    let all = some(given.mover_image.as_ref()).unwrap_or_else(|| OWN_IMAGE.to_owned());
    let or_all = |own: &Option<String>| some(own.as_ref()).unwrap_or_else(|| all.clone());
    MoverImages {
        rsync: or_all(&given.rsync_container_image),
        rsync_tls: or_all(&given.rsync_tls_container_image),
        rclone: or_all(&given.rclone_container_image),
        restic: or_all(&given.restic_container_image),
        syncthing: or_all(&given.syncthing_container_image),
    }
}

/// Reads `--movers`; the names are those of the specs, or those in object names.
pub(crate) fn movers(names: &[String]) -> Result<Movers, Failure> {
    if names.is_empty() {
        return Ok(Movers::All);
    }
    let built = || BUILT.map(Mover::as_str).join(", ");
    let mut chosen = BTreeSet::new();
    for name in names.iter().map(|name| name.trim()) {
        let mover = Mover::ALL.into_iter().find(|mover| {
            name.eq_ignore_ascii_case(mover.as_str()) || name.eq_ignore_ascii_case(mover.field())
        });
        let usable = mover.filter(|mover| BUILT.contains(mover));
        chosen.insert(usable.ok_or_else(|| {
            let what = if mover.is_some() {
                "this version cannot run"
            } else {
                "there is no"
            };
            Failure::new(format!("--movers: {what} mover {name:?}"))
                .of_kind(Kind::Usage)
                .hint(format!("name some of: {}", built()))
        })?);
    }
    Ok(Movers::Only(chosen))
}

/// Reads an address as Go does: the host may be missing, and 0 is off.
fn address(
    text: &str,
    flag: &str,
    surroundings: &Surroundings,
) -> Result<Option<SocketAddr>, Failure> {
    if ["", "0", ":0"].contains(&text) {
        return Ok(None);
    }
    let everywhere = if surroundings.ipv6 { "[::]" } else { "0.0.0.0" };
    let whole = match text.strip_prefix(':') {
        Some(port) => format!("{everywhere}:{port}"),
        None => text.to_owned(),
    };
    let found = whole.to_socket_addrs().ok().and_then(|mut all| all.next());
    found.map(Some).ok_or_else(|| {
        Failure::new(format!("{flag} {text:?} is no address"))
            .of_kind(Kind::Usage)
            .hint("write :PORT, ADDRESS:PORT, or 0 for nowhere")
    })
}

fn metrics(
    arguments: &Arguments,
    surroundings: &Surroundings,
) -> Result<Option<MetricsServer>, Failure> {
    let serving = &arguments.serving;
    let bound = address(
        &serving.metrics_bind_address,
        "--metrics-bind-address",
        surroundings,
    )?;
    Ok(bound.map(|address| MetricsServer {
        address,
        secure: serving.metrics_secure,
        require_rbac: serving.metrics_require_rbac,
        certificate: serving
            .metrics_cert_path
            .clone()
            .filter(|folder| !folder.as_os_str().is_empty())
            .map(|folder| CertificateFiles {
                folder,
                certificate: serving.metrics_cert_name.clone(),
                key: serving.metrics_cert_key.clone(),
            }),
        http2: serving.enable_http2,
    }))
}

fn election(
    arguments: &Arguments,
    own_namespace: Option<&str>,
    surroundings: &Surroundings,
) -> Result<Option<Election>, Failure> {
    if !arguments.election.leader_elect {
        return Ok(None);
    }
    let namespace = own_namespace.ok_or_else(|| {
        Failure::new("--leader-elect: the operator does not know its own namespace")
            .of_kind(Kind::Usage)
            .hint("set VOLSYNC_NAMESPACE, in a pod from metadata.namespace")
    })?;
    Ok(Some(Election {
        namespace: namespace.to_owned(),
        name: Election::VOLSYNC_LEASE.to_owned(),
        identity: leader::identity(&surroundings.host),
        timing: timing(arguments)?,
    }))
}

fn timing(arguments: &Arguments) -> Result<Timing, Failure> {
    let given = &arguments.election;
    let read = |text: &str, flag: &str| -> Result<Duration, Failure> {
        let duration: GoDuration = text.parse().map_err(|error| {
            Failure::new(format!("{flag} {text:?}: {error}")).of_kind(Kind::Usage)
        })?;
        Ok(duration.to_std())
    };
    let timing = Timing {
        lease: read(
            &given.leader_elect_lease_duration,
            "--leader-elect-lease-duration",
        )?,
        renew: read(
            &given.leader_elect_renew_deadline,
            "--leader-elect-renew-deadline",
        )?,
        retry: read(
            &given.leader_elect_retry_period,
            "--leader-elect-retry-period",
        )?,
    };
    if timing.lease > timing.renew && timing.renew > timing.retry && !timing.retry.is_zero() {
        Ok(timing)
    } else {
        Err(Failure::new(
            "a lease must last longer than its holder tries to renew it, and that longer than the wait between two tries",
        )
        .of_kind(Kind::Usage))
    }
}

/// What is no number is passed over with a remark: no log is worth an operator that does not start.
fn mover_log(surroundings: &Surroundings, remarks: &mut Vec<String>) -> MoverLog {
    let mut log = MoverLog::default();
    if let Some(text) = surroundings.variable("MOVER_LOG_MAX_BYTES") {
        match text.parse() {
            Ok(bytes) => log.max_bytes = bytes,
            Err(_) => remarks.push(format!(
                "MOVER_LOG_MAX_BYTES={text} is no number of bytes; {} are kept",
                log.max_bytes
            )),
        }
    }
    if let Some(text) = surroundings.variable("MOVER_LOG_TAIL_LINES") {
        match text.parse::<i64>() {
            Ok(lines) => log.tail_lines = (lines >= 0).then_some(lines),
            Err(_) => remarks.push(format!(
                "MOVER_LOG_TAIL_LINES={text} is no number of lines; all are looked at"
            )),
        }
    }
    log.debug = surroundings
        .variable("MOVER_LOG_DEBUG")
        .is_some_and(|text| ["1", "t", "true"].contains(&text.to_ascii_lowercase().as_str()));
    log
}

fn idle_flags(arguments: &Arguments) -> Vec<String> {
    let mut flags = arguments.zap.idle();
    let images = &arguments.images;
    let unused = [
        (
            &images.rclone_container_image,
            Mover::Rclone,
            "--rclone-container-image",
        ),
        (
            &images.restic_container_image,
            Mover::Restic,
            "--restic-container-image",
        ),
        (
            &images.rsync_tls_container_image,
            Mover::RsyncTls,
            "--rsync-tls-container-image",
        ),
        (
            &images.syncthing_container_image,
            Mover::Syncthing,
            "--syncthing-container-image",
        ),
    ];
    for (image, mover, flag) in unused {
        // Naming the image that all have asks for nothing; the chart does so for each mover.
        if image.is_some() && *image != images.mover_image && !BUILT.contains(&mover) {
            flags.push(flag);
        }
    }
    if arguments.pods.scc_name != Options::default().scc_name {
        flags.push("--scc-name");
    }
    flags
        .into_iter()
        .map(|flag| format!("{flag} is accepted and changes nothing in this version"))
        .collect()
}
