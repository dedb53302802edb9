//! Labels and annotations, `VolSync`'s and ours.

/// Label on everything that the operator makes.
pub const CREATED_BY: &str = "app.kubernetes.io/created-by";
/// Value of [`CREATED_BY`].
pub const CREATED_BY_VOLSYNC: &str = "volsync";
/// Label on mover pods and their Services: `src-<name>` or `dst-<name>`, see [`crate::names::label_value`].
pub const NAME: &str = "app.kubernetes.io/name";
/// Label on mover pods and their Services: which mover.
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// Label on mover pods and their Services.
pub const PART_OF: &str = "app.kubernetes.io/part-of";
/// Value of [`PART_OF`].
pub const PART_OF_VOLSYNC: &str = "volsync";
/// Value of [`COMPONENT`] for the rsync mover over ssh.
pub const COMPONENT_RSYNC: &str = "rsync-mover";
/// Value of [`COMPONENT`] for the rsync mover over TLS.
pub const COMPONENT_RSYNC_TLS: &str = "rsync-tls-mover";
/// Value of [`COMPONENT`] for the Syncthing mover.
pub const COMPONENT_SYNCTHING: &str = "syncthing-mover";

/// Label on what one run needs and its end removes; the value is the uid of the owner.
pub const CLEANUP: &str = "volsync.backube/cleanup";
/// Label on a `VolumeSnapshot`: its presence means that the operator lets go of it and never deletes it.
pub const DO_NOT_DELETE: &str = "volsync.backube/do-not-delete";
/// Label that ties a replication's two ends together for the `kubectl` plugin; the value is a uuid.
pub const RELATIONSHIP: &str = "volsync.backube/relationship";
/// Start of the label's key that marks a snapshot a claim is being filled from; the claim's uid follows.
pub const POPULATING_PREFIX: &str = "volsync.backube/volpop-pvc-";
/// Label on the temporary claim that fills another; the value is the name of that other.
pub const POPULATOR_PVC_FOR: &str = "volsync.backube/populator-pvc-for";
/// Annotation on a volume that was filled from an image: `<namespace>/<snapshot>`.
pub const POPULATED_FROM: &str = "volsync.backube/populated-from";

/// Annotation on a namespace: `true` in any case lets its movers run with elevated rights.
pub const PRIVILEGED_MOVERS: &str = "volsync.backube/privileged-movers";
/// Annotation on either kind: its presence makes the mover wait for a look from outside.
pub const ENABLE_DEBUG_MOVER: &str = "volsync.backube/enable-debug-mover";
/// Annotation on a destination's claim: name of the snapshot that is being made of it.
pub const SNAPSHOT_NAME: &str = "volsync.backube/snapname";
/// Annotation on a source's claim, set by users: its presence makes copies wait for [`COPY_TRIGGER`].
pub const USE_COPY_TRIGGER: &str = "volsync.backube/use-copy-trigger";
/// Annotation on a source's claim, set by users: each new value lets one copy be made.
pub const COPY_TRIGGER: &str = "volsync.backube/copy-trigger";
/// Annotation on a source's claim: the value of [`COPY_TRIGGER`] that was last used up.
pub const LATEST_COPY_TRIGGER: &str = "volsync.backube/latest-copy-trigger";
/// Annotation on a source's claim: `WaitingForTrigger`, `InProgress` or `Completed`.
pub const LATEST_COPY_STATUS: &str = "volsync.backube/latest-copy-status";
/// Annotation on a source's claim: since when a copy waits for its trigger, RFC 3339 in UTC.
pub const LATEST_COPY_TRIGGER_WAITING_SINCE: &str =
    "volsync.backube/latest-copy-trigger-waiting-since";

/// Annotation that a destination's Service gets when `serviceAnnotations` is absent.
pub const AWS_LOAD_BALANCER_TYPE: &str = "service.beta.kubernetes.io/aws-load-balancer-type";
/// Value of [`AWS_LOAD_BALANCER_TYPE`].
pub const AWS_LOAD_BALANCER_TYPE_NLB: &str = "nlb";

/// Syncline: annotation on a `ReplicationSource`. A value that differs from `status.rsync.allowedEmptySource` lets one
/// run send a source that has become empty.
pub const ALLOW_EMPTY_SOURCE: &str = "syncline.dev/allow-empty-source";
/// The same as messages name it to those who may need it.
pub const ALLOW_EMPTY_SOURCE_ONCE: &str =
    "syncline.dev/allow-empty-source=yes (another value each time)";
/// Syncline: annotation on either kind with `spec.rclone`: the path in the store for what Syncline notes about
/// `rcloneDestPath`, where the path beside it cannot be used.
pub const RCLONE_STATE_PATH: &str = "syncline.dev/rclone-state-path";
/// Syncline: annotation on a `ReplicationSource` with `spec.rclone`: the uid of the source of another cluster or name whose
/// path in the store this one is to take over. It counts for one run that succeeds, see `status.rclone.tookOver`.
pub const RCLONE_TAKE_OVER: &str = "syncline.dev/rclone-take-over";
/// Syncline: annotation on a `ReplicationSource` with `spec.rclone`: `true` is the user's word that nobody else writes to the
/// path. Then the source may write where files lie although the store does not show what is noted of them.
pub const RCLONE_SOLE_WRITER: &str = "syncline.dev/rclone-sole-writer";
/// Syncline: annotation on a `ReplicationDestination` with `spec.rclone` and without a trigger: the longest time between
/// two looks at the store, as Go writes durations.
pub const RCLONE_POLL_LIMIT: &str = "syncline.dev/rclone-poll-limit";
/// Syncline: annotation on a `ReplicationSource` with `spec.rclone`: after how many runs everything is compared with the
/// store; 0 for never by number.
pub const RCLONE_FULL_CHECK_EVERY: &str = "syncline.dev/rclone-full-check-every";
/// Syncline: annotation on a claim that is to be filled from a destination's image: `Wait`, `Empty` or `Fail`, for as long
/// as there is no image.
pub const ON_MISSING_IMAGE: &str = "syncline.dev/on-missing-image";
/// Syncline: annotation on a claim whose filling was given up, as [`ON_MISSING_IMAGE`] asks: why.
pub const POPULATION_FAILED: &str = "syncline.dev/population-failed";
/// Syncline: annotation on an image: `atomic`, `per-file` or `none`.
pub const CONSISTENCY: &str = "syncline.dev/consistency";
/// Syncline: annotation on a mover's pod: names, separated by commas, that the pod's own uid can log in under.
pub const LOGIN_NAMES: &str = "syncline.dev/login-names";
/// Syncline: annotation on either kind that stands for `moverSecurityContext` where a definition of `VolSync` drops the
/// field (`spec.rsync`); JSON or YAML. The field goes before the annotation.
pub const MOVER_SECURITY_CONTEXT: &str = "syncline.dev/mover-security-context";
/// Syncline: annotation on either kind that stands for `moverAffinity`, like [`MOVER_SECURITY_CONTEXT`].
pub const MOVER_AFFINITY: &str = "syncline.dev/mover-affinity";
/// Syncline: annotation on either kind that stands for `moverVolumes`, like [`MOVER_SECURITY_CONTEXT`].
pub const MOVER_VOLUMES: &str = "syncline.dev/mover-volumes";
/// Syncline: annotation on a source's temporary copy: the value of [`COPY_TRIGGER`] that it was made for.
pub const MADE_FOR_TRIGGER: &str = "syncline.dev/copy-trigger";
/// Syncline: annotation on an image in the making: the uid of the mover's pod that received what it holds.
pub const RECEIVED_BY: &str = "syncline.dev/received-by";
