//! Where a door listens so that pods reach it.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::cluster::Cluster;

/// A place to listen.
pub(super) struct Spot {
    address: IpAddr,
    /// The network that the address is in, if it is not this process's own.
    network: Option<PathBuf>,
}

impl Spot {
    /// Reached by programs on this machine, and by pods that have its network.
    pub(super) fn near() -> Self {
        Self {
            address: Ipv4Addr::LOCALHOST.into(),
            network: None,
        }
    }

    /// Reached by this cluster's pods, too.
    pub(super) fn of(cluster: &Cluster) -> Result<Self> {
        match cluster {
            Cluster::Embedded(_) => Ok(Self::near()),
            Cluster::Real(cluster) => {
                let (address, network) = cluster.network()?;
                Ok(Self {
                    address,
                    network: Some(network),
                })
            }
        }
    }

    pub(super) fn address(&self) -> IpAddr {
        self.address
    }

    /// Listens on a port that is free.
    pub(super) fn listen(&self) -> Result<TcpListener> {
        let Some(network) = &self.network else {
            return Ok(TcpListener::bind((self.address, 0))?);
        };
        let network = File::open(network)
            .with_context(|| format!("cannot open {}: is the cluster up?", network.display()))?;
        let address = self.address;
        // A socket stays in the network in which it was made; the thread that went there ends.
        let bound = thread::spawn(move || -> Result<TcpListener> {
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
                .context("cannot enter the cluster's network: this needs root")?;
            Ok(TcpListener::bind((address, 0))?)
        });
        bound
            .join()
            .map_err(|_| anyhow!("the thread that listens in the cluster's network broke off"))?
    }
}
