//! What these tests need, and why. On the embedded cluster, the scenarios kill the whole `syncline up` instead.

use syncline_testkit::Need;

/// The operator as a Deployment.
pub(crate) const DEPLOYMENT: Need = Need::own_real(
    "the operator must be a Deployment whose pods can be killed, in a cluster that bears it",
);
/// Parts of a cluster that can be stopped.
pub(crate) const PARTS: Need =
    Need::own_real("the cluster's own parts are stopped, so it must be the one of tests/cluster");
/// The image before this one.
pub(crate) const PREVIOUS: Need = Need::own_real(
    "the image of the previous commit is built and imported here, and installed with helm",
);
/// The audit log.
pub(crate) const AUDIT: Need =
    Need::own_real("the audit log of the cluster of tests/cluster tells who asked for what");
