//! Addresses. The cluster has a network of its own; one link leads from the host to its API.

use std::net::Ipv4Addr;

use anyhow::{Result, bail};

use crate::command::run;
use crate::folders::State;

/// Where Services are, inside.
pub(crate) const SERVICES: &str = "10.96.0.0/16";
/// The Service of the API, inside.
pub(crate) const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// Where pods are, inside.
pub(crate) const PODS: &str = "10.244.0.0/16";
/// The length of the link's prefix.
const PREFIX: u8 = 30;
/// How many candidates are tried for the link.
const TRIES: u32 = 64;

/// The two ends of the link between the host and the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// The link's name on the host.
    pub(crate) name: String,
    /// The host's end.
    pub(crate) host: Ipv4Addr,
    /// The cluster's end: the node's address, and the API's.
    pub(crate) node: Ipv4Addr,
}

impl Link {
    /// A link whose addresses nobody on this machine uses, the same for the same folder where possible.
    pub(crate) fn choose(state: &State) -> Result<Self> {
        let taken = run("ip", &["-4", "-oneline", "address", "show"])?;
        let tag = state.tag();
        let start = u32::from_str_radix(&tag, 16)?;
        for offset in 0..TRIES {
            let link = Self::candidate(&tag, start.wrapping_add(offset));
            if !taken.contains(&format!(" {}/", link.host)) {
                return Ok(link);
            }
        }
        bail!("no free addresses for the link to the cluster in 10.213.0.0/16");
    }

    /// The name of a cluster's link on the host.
    pub(crate) fn name(state: &State) -> String {
        name_of(&state.tag())
    }

    fn candidate(tag: &str, number: u32) -> Self {
        // 2^14 networks of four addresses in 10.213.0.0/16.
        let base = u32::from(Ipv4Addr::new(10, 213, 0, 0)) + (number % (1 << 14)) * 4;
        Self {
            name: name_of(tag),
            host: Ipv4Addr::from(base + 1),
            node: Ipv4Addr::from(base + 2),
        }
    }

    /// Lays the link to the namespaces of process `pid`.
    pub(crate) fn lay(&self, pid: i32) -> Result<()> {
        let (name, pid) = (self.name.as_str(), pid.to_string());
        run(
            "ip",
            &[
                "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", &pid,
            ],
        )?;
        let host = format!("{}/{PREFIX}", self.host);
        run("ip", &["address", "add", &host, "dev", name])?;
        run("ip", &["link", "set", name, "up"])?;
        let target = format!("--target={pid}");
        let node = format!("{}/{PREFIX}", self.node);
        run(
            "nsenter",
            &[
                &target, "--net", "ip", "address", "add", &node, "dev", "eth0",
            ],
        )?;
        run(
            "nsenter",
            &[&target, "--net", "ip", "link", "set", "eth0", "up"],
        )?;
        let host = self.host.to_string();
        run(
            "nsenter",
            &[
                &target, "--net", "ip", "route", "add", "default", "via", &host,
            ],
        )?;
        Ok(())
    }
}

fn name_of(tag: &str) -> String {
    format!("sl{tag}")
}
