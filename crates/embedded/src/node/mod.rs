//! The node: pods as processes.
