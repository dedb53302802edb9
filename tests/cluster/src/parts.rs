//! The parts of the cluster: which program, with which arguments, after which others, and when it is ready.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;

use crate::address::{PODS, SERVICES};
use crate::config::NODE;
use crate::folders::State;
use crate::programs::{beside, program};

/// Where the kubelet keeps what it mounts, in the cluster's own mount namespace.
pub(crate) const KUBELET: &str = "/var/lib/kubelet";
/// The CSI driver's socket, which is the one that the kubelet finds as well.
const CSI_SOCKET: &str = "/var/lib/kubelet/plugins_registry/csi.test.syncline.dev-reg.sock";

/// A part, by the name that people use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Name {
    Etcd,
    Apiserver,
    ControllerManager,
    Scheduler,
    Containerd,
    Kubelet,
    Proxy,
    Dns,
    /// The driver, its provisioner and snapshotter, and the snapshot controller.
    Csi,
}

/// All parts, in the order in which they start.
pub(crate) const ALL: [Name; 9] = [
    Name::Etcd,
    Name::Apiserver,
    Name::Containerd,
    Name::ControllerManager,
    Name::Scheduler,
    Name::Kubelet,
    Name::Proxy,
    Name::Dns,
    Name::Csi,
];

impl Name {
    /// The word on the command line.
    pub(crate) fn word(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }
}

/// One process: the name of its log, its program and arguments.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) log: &'static str,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
}

/// The processes of a part.
pub(crate) fn processes(state: &State, name: Name, api: Ipv4Addr) -> Result<Vec<Process>> {
    let one = |log, program: Result<PathBuf>, arguments: Vec<String>| -> Result<Vec<Process>> {
        Ok(vec![Process {
            log,
            program: program?,
            arguments,
        }])
    };
    let config = |file: &str| state.path("config").join(file).display().to_string();
    match name {
        Name::Etcd => one("etcd", program("etcd", "server"), etcd(state)),
        Name::Apiserver => one(
            "apiserver",
            program("kube", "kube-apiserver"),
            apiserver(state, api),
        ),
        Name::ControllerManager => one(
            "controller-manager",
            program("kube", "kube-controller-manager"),
            controller_manager(state),
        ),
        Name::Scheduler => one(
            "scheduler",
            program("kube", "kube-scheduler"),
            scheduler(state),
        ),
        Name::Containerd => {
            let arguments = words(&[
                "--config",
                &config("containerd.toml"),
                "--log-level",
                "warn",
            ]);
            one("containerd", program("runtime", "containerd"), arguments)
        }
        Name::Kubelet => one("kubelet", program("kube", "kubelet"), kubelet(state, api)),
        Name::Proxy => {
            let arguments = vec![format!("--config={}", config("proxy.yaml"))];
            one("proxy", program("kube", "kube-proxy"), arguments)
        }
        Name::Dns => one(
            "dns",
            program("coredns", "coredns"),
            words(&["-conf", &config("Corefile")]),
        ),
        Name::Csi => csi(state),
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn pki(state: &State, file: &str) -> String {
    state.path("pki").join(file).display().to_string()
}

fn etcd(state: &State) -> Vec<String> {
    vec![
        format!("--data-dir={}", state.path("etcd").display()),
        "--unsafe-no-fsync".to_owned(),
        "--listen-client-urls=http://127.0.0.1:2379".to_owned(),
        "--advertise-client-urls=http://127.0.0.1:2379".to_owned(),
        "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
        "--log-level=warn".to_owned(),
    ]
}

fn apiserver(state: &State, api: Ipv4Addr) -> Vec<String> {
    let config = state.path("config");
    let config = config.display();
    vec![
        format!("--advertise-address={api}"),
        "--bind-address=0.0.0.0".to_owned(),
        "--secure-port=6443".to_owned(),
        "--etcd-servers=http://127.0.0.1:2379".to_owned(),
        format!("--service-cluster-ip-range={SERVICES}"),
        format!("--tls-cert-file={}", pki(state, "apiserver.crt")),
        format!("--tls-private-key-file={}", pki(state, "apiserver.key")),
        format!("--client-ca-file={}", pki(state, "ca.crt")),
        format!(
            "--kubelet-client-certificate={}",
            pki(state, "apiserver-kubelet-client.crt")
        ),
        format!(
            "--kubelet-client-key={}",
            pki(state, "apiserver-kubelet-client.key")
        ),
        format!("--service-account-key-file={}", pki(state, "accounts.key")),
        format!(
            "--service-account-signing-key-file={}",
            pki(state, "accounts.key")
        ),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        format!("--admission-control-config-file={config}/admission.yaml"),
        format!("--audit-policy-file={config}/audit.yaml"),
        format!("--audit-log-path={}", state.audit_log().display()),
        "--audit-log-maxsize=2000".to_owned(),
        "--audit-log-mode=blocking".to_owned(),
        "--allow-privileged=true".to_owned(),
        "--max-requests-inflight=2000".to_owned(),
        "--max-mutating-requests-inflight=1000".to_owned(),
    ]
}

fn controller_manager(state: &State) -> Vec<String> {
    vec![
        format!(
            "--kubeconfig={}",
            pki(state, "controller-manager.kubeconfig")
        ),
        format!(
            "--service-account-private-key-file={}",
            pki(state, "accounts.key")
        ),
        format!("--root-ca-file={}", pki(state, "ca.crt")),
        "--use-service-account-credentials=true".to_owned(),
        format!("--cluster-cidr={PODS}"),
        "--leader-elect=false".to_owned(),
        "--kube-api-qps=100".to_owned(),
        "--kube-api-burst=200".to_owned(),
    ]
}

fn scheduler(state: &State) -> Vec<String> {
    let own = pki(state, "scheduler.kubeconfig");
    vec![
        format!("--kubeconfig={own}"),
        format!("--authentication-kubeconfig={own}"),
        format!("--authorization-kubeconfig={own}"),
        "--leader-elect=false".to_owned(),
    ]
}

fn kubelet(state: &State, api: Ipv4Addr) -> Vec<String> {
    vec![
        format!("--config={}", state.path("config/kubelet.yaml").display()),
        format!("--kubeconfig={}", pki(state, "kubelet.kubeconfig")),
        format!("--hostname-override={NODE}"),
        format!("--node-ip={api}"),
        format!("--root-dir={KUBELET}"),
        format!("--cert-dir={KUBELET}/pki"),
        format!("--node-labels=kubernetes.io/hostname={NODE}"),
    ]
}

fn csi(state: &State) -> Result<Vec<Process>> {
    let address = format!("--csi-address={CSI_SOCKET}");
    let kubeconfig = format!("--kubeconfig={}", pki(state, "csi.kubeconfig"));
    let driver = Process {
        log: "csi-driver",
        program: beside("csi-driver")?,
        arguments: vec![
            "--socket".to_owned(),
            CSI_SOCKET.to_owned(),
            "--data".to_owned(),
            state.path("volumes").display().to_string(),
            "--node".to_owned(),
            NODE.to_owned(),
            "--faults".to_owned(),
            state.faults().display().to_string(),
        ],
    };
    let sidecar = |log, name, more: &[&str]| -> Result<Process> {
        let mut arguments = vec![
            kubeconfig.clone(),
            "--kube-api-qps=100".to_owned(),
            "--kube-api-burst=200".to_owned(),
        ];
        arguments.extend(words(more));
        Ok(Process {
            log,
            program: program("csi", name)?,
            arguments,
        })
    };
    Ok(vec![
        driver,
        sidecar(
            "csi-provisioner",
            "csi-provisioner",
            &[
                &address,
                "--extra-create-metadata",
                "--feature-gates=Topology=true",
                "--retry-interval-max=10s",
            ],
        )?,
        sidecar(
            "csi-snapshotter",
            "csi-snapshotter",
            &[
                &address,
                "--extra-create-metadata",
                "--retry-interval-max=10s",
            ],
        )?,
        sidecar(
            "snapshot-controller",
            "snapshot-controller",
            &["--retry-interval-max=10s"],
        )?,
    ])
}
