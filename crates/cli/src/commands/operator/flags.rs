//! The flags of `syncline operator`: ours, and VolSync's under their names.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, builder::BoolishValueParser};

use super::zap::Zap;

/// Run the operator against a Kubernetes cluster: that of --kubeconfig, of $KUBECONFIG, or the one it runs in.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Look after the resources of these movers only, and leave every other one untouched [default: all that this
    /// version can run]
    #[arg(long, value_name = "MOVER", value_delimiter = ',')]
    pub(super) movers: Vec<String>,
    /// The ssh port that is meant where spec.rsync names none
    #[arg(long, value_name = "PORT", default_value_t = 22)]
    pub(super) rsync_port: u16,
    /// Watch this namespace only
    #[arg(long, value_name = "NAMESPACE")]
    pub(super) watch_namespace: Option<String>,
    /// Run at most this many syncs at once
    #[arg(long, value_name = "NUMBER")]
    pub(super) max_concurrent_syncs: Option<usize>,
    /// Serve /metrics, /healthz and /readyz here together, without TLS and to everybody
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(super) http: Option<SocketAddr>,
    #[command(flatten)]
    pub(super) images: Images,
    #[command(flatten)]
    pub(super) serving: Serving,
    #[command(flatten)]
    pub(super) election: Election,
    #[command(flatten)]
    pub(super) pods: Pods,
    #[command(flatten)]
    pub(crate) zap: Zap,
}

/// The images of the movers' pods.
#[derive(Args, Debug)]
#[command(next_help_heading = "Mover images")]
#[expect(
    clippy::struct_field_names,
    reason = "the names are those of the flags"
)]
pub(super) struct Images {
    /// Image of the mover pods; it holds this program as /syncline [default: the image of this release]
    #[arg(long, value_name = "IMAGE", env = "SYNCLINE_MOVER_IMAGE")]
    pub(super) mover_image: Option<String>,
    /// Another image for the rclone mover
    #[arg(long, value_name = "IMAGE", env = "RELATED_IMAGE_RCLONE_CONTAINER")]
    pub(super) rclone_container_image: Option<String>,
    /// Another image for the restic mover
    #[arg(long, value_name = "IMAGE", env = "RELATED_IMAGE_RESTIC_CONTAINER")]
    pub(super) restic_container_image: Option<String>,
    /// Another image for the rsync mover over ssh
    #[arg(long, value_name = "IMAGE", env = "RELATED_IMAGE_RSYNC_CONTAINER")]
    pub(super) rsync_container_image: Option<String>,
    /// Another image for the rsync mover over TLS
    #[arg(long, value_name = "IMAGE", env = "RELATED_IMAGE_RSYNC_TLS_CONTAINER")]
    pub(super) rsync_tls_container_image: Option<String>,
    /// Another image for the Syncthing mover
    #[arg(long, value_name = "IMAGE", env = "RELATED_IMAGE_SYNCTHING_CONTAINER")]
    pub(super) syncthing_container_image: Option<String>,
}

/// Where metrics and health are served.
#[derive(Args, Debug)]
#[command(next_help_heading = "Metrics and health")]
pub(super) struct Serving {
    /// Where to serve /metrics; 0 or :0 serves none
    #[arg(long, value_name = "[ADDRESS]:PORT", default_value = "0")]
    pub(super) metrics_bind_address: String,
    /// Serve metrics over TLS
    #[arg(long, value_name = "BOOL", value_parser = BoolishValueParser::new(), num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true")]
    pub(super) metrics_secure: bool,
    /// Serve metrics to those only whose token may get /metrics
    #[arg(long, value_name = "BOOL", value_parser = BoolishValueParser::new(), num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true")]
    pub(super) metrics_require_rbac: bool,
    /// Folder of the certificate for metrics [default: one is made at start]
    #[arg(long, value_name = "DIR")]
    pub(super) metrics_cert_path: Option<PathBuf>,
    /// Name of the certificate in that folder
    #[arg(long, value_name = "NAME", default_value = "tls.crt")]
    pub(super) metrics_cert_name: String,
    /// Name of its key
    #[arg(long, value_name = "NAME", default_value = "tls.key")]
    pub(super) metrics_cert_key: String,
    /// Offer HTTP/2 for metrics
    #[arg(long, value_name = "BOOL", value_parser = BoolishValueParser::new(), num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    pub(super) enable_http2: bool,
    /// Where to serve /healthz and /readyz; 0 or :0 serves none
    #[arg(long, value_name = "[ADDRESS]:PORT", default_value = ":8081")]
    pub(super) health_probe_bind_address: String,
}

/// Several operators and the lease they share.
#[derive(Args, Debug)]
#[command(next_help_heading = "Several replicas")]
#[expect(
    clippy::struct_field_names,
    reason = "the names are those of the flags"
)]
pub(super) struct Election {
    /// Work only while holding the Lease b95b3104.backube of the operator's own namespace, which VolSync takes too
    #[arg(long, value_name = "BOOL", value_parser = BoolishValueParser::new(), num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    pub(super) leader_elect: bool,
    /// How long a lease lasts
    #[arg(long, value_name = "DURATION", default_value = "137s", hide = true)]
    pub(super) leader_elect_lease_duration: String,
    /// How long its holder tries to renew it before it stops working
    #[arg(long, value_name = "DURATION", default_value = "107s", hide = true)]
    pub(super) leader_elect_renew_deadline: String,
    /// How long to wait between two tries
    #[arg(long, value_name = "DURATION", default_value = "26s", hide = true)]
    pub(super) leader_elect_retry_period: String,
}

/// What the movers' pods are given.
#[derive(Args, Debug)]
#[command(next_help_heading = "Mover pods")]
pub(super) struct Pods {
    /// Secrets of the operator's namespace that mover images are pulled with
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(super) mover_image_pull_secrets: Vec<String>,
    /// The security context constraints (SCC) that privileged movers may use
    #[arg(long, value_name = "NAME", default_value = "volsync-privileged-mover")]
    pub(super) scc_name: String,
}
