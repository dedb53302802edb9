//! Beside VolSync, after it and before it, one operator after another, and an operator in a cluster that lacks something.
//!
//! The cluster is an embedded one without an operator; the operators run in this process, through clients that write down
//! what they send. To kill one is to drop it in the middle of whatever it does.

mod annotations;
mod beside;
mod foreign_image;
mod going_back;
mod leases;
mod operators;
mod plan;
mod poor_clusters;
mod volsync;
