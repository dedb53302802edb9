//! What the product does, in sentences. Each scenario has namespaces of its own on some cluster; most share one.
//!
//! They run on the embedded cluster, and unchanged on a real one when `SYNCLINE_E2E_KUBECONFIG` names it; `needs.rs` lists
//! the few that are about one of them only.

mod admission;
mod bad_input;
mod block;
mod commands;
mod content;
mod copy_methods;
mod csi_volumes;
mod failover;
mod faults;
mod flow;
mod keys;
mod lifecycle;
mod movers_pods;
mod needs;
mod populator;
mod proxies;
mod rclone;
mod security;
mod triggers;

use syncline_tests::parts;
