//! What can be asked of this program.

pub(crate) mod down;
pub(crate) mod import;
pub(crate) mod prove_down;
pub(crate) mod up;
