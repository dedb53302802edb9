//! What can be asked of this program.

pub(crate) mod down;
pub(crate) mod import;
pub(crate) mod up;
