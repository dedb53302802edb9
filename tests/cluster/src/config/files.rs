//! The content of each configuration file. JSON is YAML, and Kubernetes reads both.

use std::net::Ipv4Addr;

use serde_json::json;

use super::{CONTAINERD, NODE, PAUSE_IMAGE, PODS};
use crate::place::Place;

/// `PodSecurity`: `restricted` where a namespace does not say otherwise by its labels.
pub(super) fn admission() -> String {
    json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AdmissionConfiguration",
        "plugins": [{"name": "PodSecurity", "configuration": {
            "apiVersion": "pod-security.admission.config.k8s.io/v1",
            "kind": "PodSecurityConfiguration",
            "defaults": {
                "enforce": "restricted", "enforce-version": "latest",
                "audit": "restricted", "audit-version": "latest",
                "warn": "restricted", "warn-version": "latest",
            },
            "exemptions": {"namespaces": ["kube-system"]},
        }}],
    })
    .to_string()
}

/// Who did what to which object, once per request.
pub(super) fn audit_policy() -> String {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata"}],
    })
    .to_string()
}

pub(super) fn kubelet(place: &Place, node: Ipv4Addr) -> String {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.to_string(),
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": place.text("pki/ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": place.text("pki/kubelet-server.crt"),
        "tlsPrivateKeyFile": place.text("pki/kubelet-server.key"),
        "containerRuntimeEndpoint": format!("unix://{CONTAINERD}"),
        "clusterDomain": "cluster.local",
        "clusterDNS": [node.to_string()],
        "resolvConf": place.text("config/resolv.conf"),
        "cgroupDriver": "cgroupfs",
        // Machines with the old control groups are served as well.
        "failCgroupV1": false,
        "failSwapOn": false,
        // Root may lack the right to lower it.
        "oomScoreAdj": 0,
        // The disk is shared with everything else on the machine.
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "serializeImagePulls": false,
        "registryPullQPS": 0,
        "eventRecordQPS": 0,
        "kubeAPIQPS": 200,
        "kubeAPIBurst": 400,
        "maxPods": 500,
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
    })
    .to_string()
}

pub(super) fn proxy(place: &Place, node: Ipv4Addr) -> String {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": place.text("config/proxy.kubeconfig")},
        "clusterCIDR": PODS,
        "hostnameOverride": NODE,
        "bindAddress": node.to_string(),
        "nodePortAddresses": [format!("{node}/32")],
        "oomScoreAdj": 0,
        // The machine's own limits stay.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
        "nftables": {"minSyncPeriod": "100ms", "syncPeriod": "30s"},
    })
    .to_string()
}

pub(super) fn containerd(place: &Place) -> String {
    format!(
        r#"version = 3
root = "{root}"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri"]

[grpc]
  address = "{CONTAINERD}"

[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "{PAUSE_IMAGE}"

[plugins.'io.containerd.cri.v1.runtime']
  # Root may lack the right to lower it; runc then dies with "can't get final child's PID from pipe: EOF".
  restrict_oom_score_adj = true
  # A pod that is not root may use its block volumes, as the API promises since 1.22 and large clusters set it.
  device_ownership_from_security_context = true

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ["/usr/lib/cni"]
  conf_dir = "{cni}"
"#,
        root = place.text("containerd"),
        cni = place.text("cni"),
    )
}

/// The names of the cluster; any other name does not exist, and is not waited for.
pub(super) fn corefile(place: &Place, node: Ipv4Addr) -> String {
    format!(
        "cluster.local:53 in-addr.arpa:53 ip6.arpa:53 {{
    bind {node}
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        kubeconfig {kubeconfig}
        ttl 1
    }}
}}
.:53 {{
    bind {node}
    template ANY ANY . {{
        rcode NXDOMAIN
    }}
}}
",
        kubeconfig = place.text("config/dns.kubeconfig"),
    )
}

pub(super) fn network() -> String {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "pods",
                "isGateway": true,
                "ipMasq": true,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": PODS}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
    .to_string()
}
