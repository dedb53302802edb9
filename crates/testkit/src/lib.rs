//! For tests only: fixtures, tree comparison, faults, clusters.
//!
//! Invariant: nothing but tests (and `xtask` and `bench`, which are no product) uses this crate.

pub mod cluster;
pub mod corpus;
mod disk;
pub mod fixture;
pub mod log;
pub mod need;
pub mod scenario;
pub mod store;
mod toolbox;
pub mod tree;
pub mod volume;
pub mod wait;

pub use cluster::{Cluster, Who};
pub use need::{Need, Place};
pub use rustix::process::Signal;
pub use scenario::{Site, scenario};
pub use tree::Tree;
pub use volume::Volume;
