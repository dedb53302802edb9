//! One file a subcommand: its arguments, and what it does with them.

pub(crate) mod apply;
pub(crate) mod completions;
pub(crate) mod delete;
pub(crate) mod get;
pub(crate) mod logs;
pub(crate) mod mover;
pub(crate) mod operator;
pub(crate) mod plan;
pub(crate) mod pod_launcher;
pub(crate) mod status;
pub(crate) mod up;
pub(crate) mod version;
pub(crate) mod volume;
