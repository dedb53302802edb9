//! The parts of the cluster: which processes each one is, and with which arguments they run.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use crate::config::{API_PORT, NODE, SERVICES};
use crate::control::Process;
use crate::place::Place;
use crate::programs::Programs;

/// Where etcd answers.
pub(crate) const ETCD: &str = "http://127.0.0.1:2379";
/// Where the kubelet and the helpers of CSI find the driver.
const CSI_FOLDER: &str = "/var/lib/kubelet/plugins/csi.test.syncline.dev";
/// Debian keeps runc, nft, mkfs and the like in `sbin`.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What can be stopped and started on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Part {
    Etcd,
    Apiserver,
    ControllerManager,
    Scheduler,
    Kubelet,
    Containerd,
    Proxy,
    Dns,
    Csi,
}

impl Part {
    /// The names of its processes.
    pub(crate) fn processes(self) -> &'static [&'static str] {
        match self {
            Self::Etcd => &["etcd"],
            Self::Apiserver => &["kube-apiserver"],
            Self::ControllerManager => &["kube-controller-manager"],
            Self::Scheduler => &["kube-scheduler"],
            Self::Kubelet => &["kubelet"],
            Self::Containerd => &["containerd"],
            Self::Proxy => &["kube-proxy"],
            Self::Dns => &["coredns"],
            Self::Csi => &[
                "csi-driver",
                "csi-provisioner",
                "csi-resizer",
                "csi-snapshotter",
                "snapshot-controller",
            ],
        }
    }
}

/// All that the arguments are made of.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) place: Place,
    pub(crate) programs: Programs,
    pub(crate) node: Ipv4Addr,
}

impl Setup {
    /// The processes of a part, ready to be started. A CSI driver that has not been built is left out.
    pub(crate) fn processes(&self, part: Part) -> Result<Vec<Process>> {
        let mut all = Vec::new();
        for name in part.processes() {
            let program = match *name {
                "csi-driver" => match self.csi_driver()? {
                    Some(program) => program,
                    None => continue,
                },
                name => self.programs.path(name),
            };
            all.push(Process {
                name: (*name).to_owned(),
                program,
                arguments: self.arguments(name),
                environment: self.environment(),
                log: self.place.log(name),
            });
        }
        Ok(all)
    }

    fn environment(&self) -> Vec<(String, String)> {
        let path = format!("{}:{SYSTEM_PATH}", self.programs.folder.display());
        // Memory is there, processors are not: garbage is collected less often than Go does by itself.
        vec![
            ("PATH".to_owned(), path),
            ("GOGC".to_owned(), "400".to_owned()),
        ]
    }

    fn arguments(&self, process: &str) -> Vec<String> {
        match process {
            "etcd" => self.etcd(),
            "kube-apiserver" => self.apiserver(),
            "kube-controller-manager" => self.controller_manager(),
            "kube-scheduler" => self.scheduler(),
            "kubelet" => self.kubelet(),
            "containerd" => vec!["--config".to_owned(), self.file("config/containerd.toml")],
            "kube-proxy" => vec![format!("--config={}", self.file("config/proxy.json"))],
            "coredns" => vec!["-conf".to_owned(), self.file("config/Corefile")],
            "csi-driver" => self.driver(),
            "snapshot-controller" => self.snapshot_controller(),
            _ => self.csi_helper(process),
        }
    }

    fn file(&self, name: &str) -> String {
        self.place.text(name)
    }

    fn etcd(&self) -> Vec<String> {
        vec![
            format!("--data-dir={}", self.file("etcd")),
            format!("--listen-client-urls={ETCD}"),
            format!("--advertise-client-urls={ETCD}"),
            "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
            // It need not outlive the machine.
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
        ]
    }

    fn apiserver(&self) -> Vec<String> {
        let file = |name: &str| self.file(name);
        vec![
            format!("--etcd-servers={ETCD}"),
            format!("--bind-address={}", self.node),
            format!("--advertise-address={}", self.node),
            format!("--secure-port={API_PORT}"),
            format!("--service-cluster-ip-range={SERVICES}"),
            "--authorization-mode=Node,RBAC".to_owned(),
            // The second one, as on OpenShift, asks whoever names an owner for a right to it.
            "--enable-admission-plugins=NodeRestriction,OwnerReferencesPermissionEnforcement"
                .to_owned(),
            format!(
                "--admission-control-config-file={}",
                file("config/admission.json")
            ),
            format!("--client-ca-file={}", file("pki/ca.crt")),
            format!("--tls-cert-file={}", file("pki/apiserver.crt")),
            format!("--tls-private-key-file={}", file("pki/apiserver.key")),
            format!("--kubelet-certificate-authority={}", file("pki/ca.crt")),
            format!(
                "--kubelet-client-certificate={}",
                file("pki/kubelet-client.crt")
            ),
            format!("--kubelet-client-key={}", file("pki/kubelet-client.key")),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
            format!("--service-account-key-file={}", file("pki/accounts.pub")),
            format!(
                "--service-account-signing-key-file={}",
                file("pki/accounts.key")
            ),
            format!("--audit-policy-file={}", file("config/audit-policy.json")),
            format!("--audit-log-path={}", self.audit_log().display()),
            // One file for the whole run, in megabytes.
            "--audit-log-maxsize=4096".to_owned(),
            "--allow-privileged=true".to_owned(),
            "--profiling=false".to_owned(),
        ]
    }

    /// Where the API server writes who did what.
    pub(crate) fn audit_log(&self) -> PathBuf {
        self.place.file("logs/audit.log")
    }

    fn controller_manager(&self) -> Vec<String> {
        vec![
            format!(
                "--kubeconfig={}",
                self.file("config/controller-manager.kubeconfig")
            ),
            "--use-service-account-credentials=true".to_owned(),
            format!(
                "--service-account-private-key-file={}",
                self.file("pki/accounts.key")
            ),
            format!("--root-ca-file={}", self.file("pki/ca.crt")),
            format!("--cluster-signing-cert-file={}", self.file("pki/ca.crt")),
            format!("--cluster-signing-key-file={}", self.file("pki/ca.key")),
            "--bind-address=127.0.0.1".to_owned(),
            "--leader-elect=false".to_owned(),
            "--kube-api-qps=200".to_owned(),
            "--kube-api-burst=400".to_owned(),
        ]
    }

    fn scheduler(&self) -> Vec<String> {
        vec![
            format!("--kubeconfig={}", self.file("config/scheduler.kubeconfig")),
            "--bind-address=127.0.0.1".to_owned(),
            "--leader-elect=false".to_owned(),
        ]
    }

    fn kubelet(&self) -> Vec<String> {
        vec![
            format!("--config={}", self.file("config/kubelet.json")),
            format!("--kubeconfig={}", self.file("config/kubelet.kubeconfig")),
            format!("--hostname-override={NODE}"),
            format!("--node-ip={}", self.node),
        ]
    }

    fn driver(&self) -> Vec<String> {
        vec![
            format!("--socket={CSI_FOLDER}/csi.sock"),
            format!("--data={}", self.file("volumes")),
            format!("--node={NODE}"),
            "--kubelet-registration=/var/lib/kubelet/plugins_registry".to_owned(),
            format!("--faults={}", self.file("faults.json")),
        ]
    }

    fn csi_helper(&self, process: &str) -> Vec<String> {
        let mut arguments = self.snapshot_controller();
        arguments.extend([
            format!("--csi-address={CSI_FOLDER}/csi.sock"),
            "--timeout=60s".to_owned(),
        ]);
        // Volumes and snapshots are told whose they are: a test's faults are for its namespace only.
        if process != "csi-resizer" {
            arguments.push("--extra-create-metadata".to_owned());
        }
        if process == "csi-provisioner" {
            arguments.push("--feature-gates=Topology=true".to_owned());
        }
        arguments
    }

    /// What all controllers of CSI understand. A fault that a test injects is tried again soon.
    fn snapshot_controller(&self) -> Vec<String> {
        vec![
            format!("--kubeconfig={}", self.place.kubeconfig().display()),
            "--kube-api-qps=200".to_owned(),
            "--kube-api-burst=400".to_owned(),
            "--retry-interval-start=200ms".to_owned(),
            "--retry-interval-max=5s".to_owned(),
        ]
    }

    /// The CSI driver, which cargo builds beside this program; a copy, since cargo may build it anew at any time.
    fn csi_driver(&self) -> Result<Option<PathBuf>> {
        let this = std::env::current_exe().context("cannot find this program")?;
        let built = this.with_file_name("csi-driver");
        let copy = self.place.file("csi-driver");
        if built.exists() {
            let draft = self.place.file("csi-driver.new");
            fs::copy(&built, &draft).with_context(|| format!("cannot copy {}", built.display()))?;
            fs::rename(&draft, &copy)?;
        }
        Ok(copy.exists().then_some(copy))
    }
}
