//! The embedded cluster: a Kubernetes API server, its store and a node, for one machine.
//!
//! Invariant: it is a cluster, nothing more. It knows no custom resource of ours and no mover.

pub mod clock;
mod cluster;
mod controllers;
mod discovery;
mod kinds;
mod node;
mod openapi;
mod server;
mod startup;
mod store;
mod tables;
mod wire;

pub use cluster::{Cluster, Config, StartError};
pub use node::{Launcher, launcher::main as launcher_main};
