//! Keys of the Secrets that movers read.

/// Private ssh key of the sending side.
pub const SOURCE: &str = "source";
/// Public ssh key of the sending side.
pub const SOURCE_PUB: &str = "source.pub";
/// Private ssh key of the receiving side.
pub const DESTINATION: &str = "destination";
/// Public ssh key of the receiving side.
pub const DESTINATION_PUB: &str = "destination.pub";

/// rclone's configuration.
pub const RCLONE_CONF: &str = "rclone.conf";
/// What the other keys of rclone's Secret that rclone itself gets begin with.
pub const RCLONE_PREFIX: &str = "RCLONE_";

/// What the Secret of a source must hold.
pub const NEEDED_BY_SOURCE: [&str; 3] = [SOURCE, SOURCE_PUB, DESTINATION_PUB];
/// What the Secret of a destination must hold.
pub const NEEDED_BY_DESTINATION: [&str; 3] = [DESTINATION, DESTINATION_PUB, SOURCE_PUB];
/// What the Secret that keys are made in holds.
pub const MAIN: [&str; 4] = [SOURCE, SOURCE_PUB, DESTINATION, DESTINATION_PUB];
