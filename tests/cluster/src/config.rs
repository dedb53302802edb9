//! Configuration files of the cluster's programs.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::Result;

use crate::address::PODS;
use crate::folders::State;

/// The node's name.
pub(crate) const NODE: &str = "node";
/// The image of the container that holds a pod's namespaces.
pub(crate) const PAUSE: &str = "syncline.test/pause:1";
/// containerd's socket, in the cluster's own /run.
pub(crate) const CONTAINERD: &str = "/run/containerd/containerd.sock";

/// The kubelet's parent cgroup, one folder in each of the host's hierarchies.
pub(crate) fn cgroup(state: &State) -> String {
    format!("syncline-{}", state.tag())
}

/// Writes all of them to the state folder's `config/`.
pub(crate) fn write(state: &State, api: Ipv4Addr) -> Result<()> {
    let folder = state.path("config");
    fs::create_dir_all(folder.join("cni"))?;
    let pki = state.path("pki");
    let write = |name: &str, text: String| fs::write(folder.join(name), text);
    write("admission.yaml", admission())?;
    write("audit.yaml", audit())?;
    write("containerd.toml", containerd(state, &folder))?;
    write("cni/10-bridge.conflist", cni())?;
    write("kubelet.yaml", kubelet(state, &pki, api))?;
    write("proxy.yaml", proxy(&pki))?;
    write("Corefile", corefile(&pki, api))?;
    // Names outside of the cluster are nobody's here.
    write("resolv.conf", format!("nameserver {api}\n"))?;
    Ok(())
}

fn admission() -> String {
    r"apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: PodSecurity
  configuration:
    apiVersion: pod-security.admission.config.k8s.io/v1
    kind: PodSecurityConfiguration
    defaults: {enforce: restricted, enforce-version: latest}
    exemptions: {namespaces: [kube-system]}
"
    .to_owned()
}

fn audit() -> String {
    r#"apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  userGroups: ["system:nodes"]
- level: None
  nonResourceURLs: ["/healthz*", "/livez*", "/readyz*", "/openapi*"]
- level: Metadata
"#
    .to_owned()
}

fn containerd(state: &State, folder: &Path) -> String {
    format!(
        r#"version = 3
root = "{root}"
state = "/run/containerd"
[grpc]
  address = "{CONTAINERD}"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "{config}/cni"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "{PAUSE}"
"#,
        root = state.path("containerd").display(),
        config = folder.display(),
    )
}

fn cni() -> String {
    format!(
        r#"{{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {{"type": "bridge", "bridge": "pods0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
    "ipam": {{"type": "host-local", "dataDir": "/run/cni", "ranges": [[{{"subnet": "{PODS}"}}]],
             "routes": [{{"dst": "0.0.0.0/0"}}]}}}},
  {{"type": "portmap", "capabilities": {{"portMappings": true}}}}
]}}
"#
    )
}

fn kubelet(state: &State, pki: &Path, api: Ipv4Addr) -> String {
    let pki = pki.display();
    format!(
        r#"apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {{enabled: false}}
  webhook: {{enabled: true}}
  x509: {{clientCAFile: {pki}/ca.crt}}
authorization: {{mode: Webhook}}
tlsCertFile: {pki}/kubelet-server.crt
tlsPrivateKeyFile: {pki}/kubelet-server.key
containerRuntimeEndpoint: unix://{CONTAINERD}
cgroupDriver: cgroupfs
cgroupRoot: /{cgroup}
failCgroupV1: false
failSwapOn: false
clusterDNS: ["{api}"]
clusterDomain: cluster.local
resolvConf: {config}/resolv.conf
evictionHard: {{memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
maxPods: 200
nodeStatusUpdateFrequency: 5s
shutdownGracePeriod: 0s
localStorageCapacityIsolation: false
volumePluginDir: {folder}/volume-plugins
logging: {{verbosity: 1}}
"#,
        cgroup = cgroup(state),
        config = state.path("config").display(),
        folder = state.folder().display(),
    )
}

fn proxy(pki: &Path) -> String {
    format!(
        r"apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: {PODS}
hostnameOverride: {NODE}
conntrack: {{maxPerCore: 0}}
clientConnection: {{kubeconfig: {}/proxy.kubeconfig}}
",
        pki.display()
    )
}

fn corefile(pki: &Path, api: Ipv4Addr) -> String {
    format!(
        r".:53 {{
    bind {api}
    errors
    ready {api}:8181
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {}/dns.kubeconfig
        ttl 1
    }}
}}
",
        pki.display()
    )
}
