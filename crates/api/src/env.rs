//! Names of the environment variables that movers read.

/// Address of the destination's mover. For a source.
pub const DESTINATION_ADDRESS: &str = "DESTINATION_ADDRESS";
/// Port of the destination's mover. For a source.
pub const DESTINATION_PORT: &str = "DESTINATION_PORT";
/// Folder in the destination's volume that is written to. For both sides.
pub const DESTINATION_PATH: &str = "DESTINATION_PATH";
/// Name to log in with at the destination. For both sides.
pub const DESTINATION_USER: &str = "DESTINATION_USER";
/// The address of this pod, which servers listen on.
pub const POD_IP: &str = "POD_IP";
/// The device that is replicated, where the volume is one instead of a file system. For both sides.
pub const BLOCK_DEVICE: &str = "BLOCK_DEVICE";
/// Entries that the source held at its last successful run, `lost+found` apart; absent when no such run is known.
pub const LAST_SYNCED_ENTRIES: &str = "LAST_SYNCED_ENTRIES";
/// `1` lets this run send a source that has become empty.
pub const ALLOW_EMPTY_SOURCE: &str = "ALLOW_EMPTY_SOURCE";
/// `1` or `0`: whether the mover runs with elevated rights.
pub const PRIVILEGED_MOVER: &str = "PRIVILEGED_MOVER";
/// `1` makes the mover wait for a look from outside.
pub const DEBUG_MOVER: &str = "DEBUG_MOVER";
