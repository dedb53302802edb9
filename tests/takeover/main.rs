//! Beside VolSync, after it, and one operator after another.
//!
//! The cluster is an embedded one without an operator; the operators run in this process, through clients that write down
//! what they send. To kill one is to drop it in the middle of whatever it does.

mod beside;
mod foreign_image;
mod leases;
mod operators;
mod plan;
mod volsync;
