//! What the product does, in sentences, run against a cluster; here, what those sentences are made of.

pub mod audit;
pub mod midway;
pub mod parts;
pub mod stores;
pub mod volsync;
pub mod volume_faults;
