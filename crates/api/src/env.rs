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
/// rclone's configuration, a file of the Secret that the resource names. For both sides of rclone.
pub const RCLONE_CONFIG: &str = "RCLONE_CONFIG";
/// The section of rclone's configuration that names the store.
pub const RCLONE_CONFIG_SECTION: &str = "RCLONE_CONFIG_SECTION";
/// The path in the store, its bucket first where it has buckets.
pub const RCLONE_DEST_PATH: &str = "RCLONE_DEST_PATH";
/// `source` or `destination`, for whoever reads a pod.
pub const DIRECTION: &str = "DIRECTION";
/// Where the volume is mounted.
pub const MOUNT_PATH: &str = "MOUNT_PATH";
/// A file with certificates of authorities that the store's certificate may be signed by.
pub const CUSTOM_CA: &str = "CUSTOM_CA";
/// The generation that this side's last successful run ended with, as its report gave it.
pub const LAST_GENERATION: &str = "LAST_GENERATION";
/// `1` tells a destination that its volume goes with the run: whatever it holds came in this run, and not with
/// [`LAST_GENERATION`].
pub const PASSING_VOLUME: &str = "PASSING_VOLUME";
/// `1` makes a destination wait until the store holds another generation than [`LAST_GENERATION`].
pub const POLL: &str = "POLL";
/// The longest time between two looks of a waiting destination, in seconds.
pub const POLL_LIMIT: &str = "POLL_LIMIT";
/// After how many runs a source compares everything with the store; 0 for never by number.
pub const FULL_CHECK_EVERY: &str = "FULL_CHECK_EVERY";
/// Successful runs of a source since it last compared everything with the store.
pub const RUNS_SINCE_FULL_CHECK: &str = "RUNS_SINCE_FULL_CHECK";
/// The path in the store for what Syncline notes about [`RCLONE_DEST_PATH`], where it is not the sibling.
pub const STATE_PATH: &str = "STATE_PATH";
/// The uid of the resource that a mover runs for.
pub const OWNER_UID: &str = "OWNER_UID";
/// The namespace of the resource that a mover runs for.
pub const OWNER_NAMESPACE: &str = "OWNER_NAMESPACE";
/// The name of the resource that a mover runs for.
pub const OWNER_NAME: &str = "OWNER_NAME";
/// What tells the cluster of [`OWNER_UID`] from others: the uid of its namespace `kube-system`. Absent where nobody knows.
pub const OWNER_CLUSTER: &str = "OWNER_CLUSTER";
/// The uid of a source, of whatever cluster and name, whose path this one is to take over.
pub const TAKE_OVER: &str = "TAKE_OVER";
/// Set when a source counts as the only one that writes to the path, although the store refuses to show what is noted of it: it
/// was told so, or its last run had to write there so and ended well.
pub const SOLE_WRITER: &str = "SOLE_WRITER";
