//! The node: pods as processes.

pub(crate) mod launcher;
