//! The configuration files of the parts, and the figures they share.

mod files;

use std::fs;
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};

use crate::place::Place;

/// On the node's own address only.
pub(crate) const API_PORT: u16 = 6443;
pub(crate) const NODE: &str = "node";
/// Addresses of services and pods; they exist in the cluster's network namespace only.
pub(crate) const SERVICES: &str = "10.96.0.0/16";
pub(crate) const FIRST_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
pub(crate) const PODS: &str = "10.244.0.0/16";
pub(crate) const CONTAINERD: &str = "/run/containerd/containerd.sock";
/// What the sandbox of each pod runs.
pub(crate) const PAUSE_IMAGE: &str = "syncline.test/pause:1";

/// Writes all configuration files.
pub(crate) fn write(place: &Place, node: Ipv4Addr) -> Result<()> {
    fs::create_dir_all(place.file("cni"))?;
    let files = [
        ("config/admission.json", files::admission()),
        ("config/audit-policy.json", files::audit_policy()),
        ("config/kubelet.json", files::kubelet(place, node)),
        ("config/proxy.json", files::proxy(place, node)),
        ("config/containerd.toml", files::containerd(place)),
        ("config/Corefile", files::corefile(place, node)),
        // Pods that want the node's own resolver get none.
        ("config/resolv.conf", String::new()),
        ("cni/10-bridge.conflist", files::network()),
    ];
    for (name, content) in files {
        let path = place.file(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
