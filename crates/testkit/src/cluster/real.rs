//! A real Kubernetes that was there before, with Syncline installed in it.
//!
//! Everything goes through its API, with kubectl where a stream is needed. When it is the cluster of this checkout
//! (`tests/cluster`), `SYNCLINE_E2E_CLUSTER` names its program, and its parts can be stopped and started.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ListParams, LogParams};
use kube::config::Kubeconfig;
use kube::core::Request;
use tempfile::TempDir;

use super::{OUR_KINDS, binary, client_of};
use crate::wait::{Look, wait_for, wait_for_blocking};

/// Names the kubeconfig of the real cluster that a run is about.
pub const KUBECONFIG: &str = "SYNCLINE_E2E_KUBECONFIG";
/// Names the program of `tests/cluster`, when the cluster is one that it started.
const PROGRAM: &str = "SYNCLINE_E2E_CLUSTER";
/// Names the folder of the CSI driver's volumes (`<handle>/data` each), when this machine can see it.
const VOLUMES: &str = "SYNCLINE_E2E_VOLUMES";
/// Names the image with `tar` that looks into volumes: the one under test does.
const IMAGE: &str = "SYNCLINE_E2E_IMAGE";
/// The namespace of the operator.
pub const SYSTEM: &str = "syncline-system";
/// The name of its Deployment and of its account there.
pub const OPERATOR: &str = "syncline";
/// The account that reads metrics, and its binding.
const READER: &str = "syncline-e2e-reader";
/// The operator's ports for health and for metrics.
const HEALTH_PORT: u16 = 8081;
const METRICS_PORT: u16 = 8443;
/// How long the operator may take to answer.
const READY_CAP: Duration = Duration::from_secs(120);

/// A connection to the cluster, with a kubectl for it.
#[derive(Debug)]
pub struct Real {
    kubeconfig: PathBuf,
    binary: PathBuf,
    scratch: TempDir,
}

impl Real {
    /// Whether this run is about a real cluster.
    pub fn is_wanted() -> bool {
        std::env::var_os(KUBECONFIG).is_some()
    }

    /// Whether its parts run on this machine, started by the program of `tests/cluster`.
    pub fn is_ours() -> bool {
        Self::is_wanted() && std::env::var_os(PROGRAM).is_some()
    }

    /// The cluster that the environment names, once it serves our kinds.
    pub async fn connect() -> Result<Self> {
        let path =
            std::env::var_os(KUBECONFIG).with_context(|| format!("{KUBECONFIG} is not set"))?;
        let cluster = Self {
            kubeconfig: PathBuf::from(path),
            binary: binary()?,
            scratch: tempfile::Builder::new()
                .prefix("syncline-test-")
                .tempdir()?,
        };
        cluster.ready().await?;
        Ok(cluster)
    }

    /// Waits until the API answers and serves our kinds.
    pub async fn ready(&self) -> Result<()> {
        wait_for(
            "the cluster to answer and to serve our kinds",
            READY_CAP,
            || async {
                let client = client_of(&self.kubeconfig).await?;
                for kind in OUR_KINDS {
                    let path = format!("/apis/volsync.backube/v1alpha1/{kind}");
                    let list = ListParams::default().limit(1);
                    client.request_text(Request::new(path).list(&list)?).await?;
                }
                Ok(Look::Done(()))
            },
        )
        .await
    }

    /// The kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A folder for the tests' own files, removed in the end.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// The `syncline` under test, for its commands.
    pub(super) fn binary(&self) -> &Path {
        &self.binary
    }

    /// A kubectl command for this cluster.
    pub fn kubectl(&self, arguments: &[&str]) -> Command {
        let program = std::env::var_os("KUBECTL").unwrap_or_else(|| "kubectl".into());
        let mut command = Command::new(program);
        command
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(arguments)
            // Its discovery cache belongs to the run.
            .env("HOME", self.scratch());
        command
    }

    /// What a kubectl command that must succeed prints.
    pub fn kubectl_says(&self, arguments: &[&str]) -> Result<String> {
        let output = self
            .kubectl(arguments)
            .output()
            .context("cannot start kubectl: name one in KUBECTL")?;
        ensure!(
            output.status.success(),
            "kubectl {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The image that looks into volumes.
    pub fn image(&self) -> Result<String> {
        std::env::var(IMAGE).with_context(|| {
            format!("{IMAGE} is not set: it names Syncline's image, or another that has tar")
        })
    }

    /// The folder of a volume's data, if this machine can see it.
    pub fn folder_of(&self, handle: &str) -> Option<PathBuf> {
        let root = PathBuf::from(std::env::var_os(VOLUMES)?);
        Some(root.join(handle).join("data")).filter(|folder| folder.exists())
    }

    /// Tells the cluster's program to do something to a part of the cluster, for instance `stop apiserver`.
    pub fn part(&self, action: &str, part: &str) -> Result<()> {
        program_says(&[action, part]).map(drop)
    }

    /// The file that tells the cluster's CSI driver what to do wrong.
    pub fn faults(&self) -> Result<PathBuf> {
        program_says(&["faults"]).map(PathBuf::from)
    }

    /// The folder of the programs that were built for the cluster.
    pub(crate) fn tools() -> Result<PathBuf> {
        program_says(&["tools"]).map(PathBuf::from)
    }

    /// The node's address, which pods reach as this machine does, and the network namespace that has it.
    pub(crate) fn network(&self) -> Result<(IpAddr, PathBuf)> {
        let read = Kubeconfig::read_from(&self.kubeconfig)?;
        let server = read
            .clusters
            .first()
            .and_then(|named| named.cluster.as_ref()?.server.clone())
            .context("a kubeconfig without a server")?;
        let host = server.rsplit("://").next().unwrap_or_default();
        let address: SocketAddr = host
            .trim_end_matches('/')
            .parse()
            .with_context(|| format!("{server} names no address of our cluster"))?;
        let root = PathBuf::from(program_says(&["root"])?);
        let process = root
            .parent()
            .with_context(|| format!("{} is not in /proc", root.display()))?;
        Ok((address.ip(), process.join("ns/net")))
    }

    /// The file in which the cluster's API server writes who asked it for what.
    pub fn audit_log(&self) -> Result<PathBuf> {
        program_says(&["audit-log"]).map(PathBuf::from)
    }

    /// What the operator's pods have logged, all of them.
    pub async fn operator_log(&self) -> String {
        let Ok(client) = client_of(&self.kubeconfig).await else {
            return "the cluster does not answer".to_owned();
        };
        let pods: Api<Pod> = Api::namespaced(client, SYSTEM);
        let mut text = String::new();
        for pod in pods
            .list(&ListParams::default())
            .await
            .map(|list| list.items)
            .unwrap_or_default()
        {
            let name = pod.metadata.name.unwrap_or_default();
            let log = pods.logs(&name, &LogParams::default()).await;
            text.push_str(&log.unwrap_or_else(|error| format!("{error:#}")));
        }
        text
    }

    /// A token of a monitoring system: of an account that has the chart's role for readers and no other.
    fn reader_token(&self) -> Result<String> {
        let manifests = self.scratch().join("reader.yaml");
        fs::write(
            &manifests,
            format!(
                "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {READER}, namespace: {SYSTEM}}}\n---\n\
                 apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {{name: {READER}}}\n\
                 roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {OPERATOR}-metrics-reader}}\n\
                 subjects: [{{kind: ServiceAccount, name: {READER}, namespace: {SYSTEM}}}]\n"
            ),
        )?;
        let file = manifests.to_str().context("a path that is no text")?;
        self.kubectl_says(&["apply", "--server-side", "--filename", file])?;
        self.kubectl_says(&["-n", SYSTEM, "create", "token", READER])
    }

    /// Asks the operator for a page, as a probe or as a monitoring system with the reader's role does.
    pub fn operator_page(&self, path: &str) -> Result<String> {
        let deployment = format!("deployment/{OPERATOR}");
        let metrics = path.starts_with("/metrics");
        let port = if metrics { METRICS_PORT } else { HEALTH_PORT };
        let forward = Forward::start(self, &deployment, port)?;
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--include", "--insecure"]);
        if metrics {
            let token = self.reader_token()?;
            curl.args([
                "--header",
                &format!("Authorization: Bearer {}", token.trim()),
            ]);
        }
        let scheme = if metrics { "https" } else { "http" };
        curl.arg(format!("{scheme}://127.0.0.1:{}{path}", forward.port));
        let output = curl.output().context("cannot start curl")?;
        ensure!(
            output.status.success(),
            "curl: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// What the cluster's program prints.
fn program_says(arguments: &[&str]) -> Result<String> {
    let program = std::env::var_os(PROGRAM)
        .with_context(|| format!("{PROGRAM} is not set: this cluster's parts are not ours"))?;
    let output = Command::new(program).args(arguments).output()?;
    ensure!(
        output.status.success(),
        "the cluster cannot {arguments:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}

/// A `kubectl port-forward`, ended with this value.
struct Forward {
    child: Child,
    port: u16,
}

impl Forward {
    fn start(cluster: &Real, target: &str, port: u16) -> Result<Self> {
        let said = cluster
            .scratch()
            .join(format!("forward-{port}-{}", rand::random::<u32>()));
        let log = fs::File::create(&said)?;
        let child = cluster
            .kubectl(&["-n", SYSTEM, "port-forward", target, &format!(":{port}")])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start kubectl")?;
        let mut forward = Self { child, port: 0 };
        forward.port = wait_for_blocking("kubectl to forward a port", READY_CAP, || {
            let text = fs::read_to_string(&said)?;
            let port = text
                .split("127.0.0.1:")
                .nth(1)
                .and_then(|rest| rest.split_whitespace().next()?.parse().ok());
            if port.is_none() && forward.child.try_wait()?.is_some() {
                bail!("kubectl ended: {text}");
            }
            Ok(port.map_or(Look::NotYet(text), Look::Done))
        })?;
        Ok(forward)
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
