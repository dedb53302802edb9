//! The network namespace of the cluster: one link to the host, none to the world.

use std::fs;

use anyhow::{Context as _, Result};

use super::Settings;
use crate::shell;

pub(super) fn prepare(settings: &Settings) -> Result<()> {
    let address = format!("{}/30", settings.address);
    shell::run(&["ip", "link", "set", "lo", "up"])?;
    shell::run(&["ip", "addr", "add", &address, "dev", &settings.link])?;
    shell::run(&["ip", "link", "set", &settings.link, "up"])?;
    // The node's own calls to a service need some way out before kube-proxy turns them. All else is unreachable at once.
    shell::run(&[
        "ip",
        "route",
        "add",
        &settings.services,
        "dev",
        &settings.link,
    ])?;
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("cannot forward packets of pods")
}
