//! For tests only: fixtures, tree comparison, faults, clusters.
//!
//! Invariant: nothing but tests (and `xtask`, which is no product) uses this crate.

pub mod cluster;
pub mod corpus;
pub mod fixture;
pub mod log;
pub mod scenario;
pub mod tree;
pub mod wait;

pub use cluster::{Cluster, Who};
pub use scenario::{Site, scenario};
pub use tree::Tree;
