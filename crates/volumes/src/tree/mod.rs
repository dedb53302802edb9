//! Whole directory trees: walking, copying, measuring and removing them without ever following a symbolic link.

pub(crate) mod content;
mod metadata;
mod passes;
mod remove;
mod usage;
mod walk;

pub(crate) use passes::Copier;
pub(crate) use remove::remove;
pub(crate) use usage::usage;
pub(crate) use walk::open_root;
