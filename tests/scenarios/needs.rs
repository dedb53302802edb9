//! The one list of what scenarios need that not every cluster has, and why. Every other scenario holds on the embedded
//! cluster and on a real one.

use std::path::Path;

use syncline_testkit::Need;

/// Users of the machine.
pub(crate) const ORDINARY_USER: Need =
    Need::embedded("an embedded cluster may run for an ordinary user; a real one runs for nobody");
/// Folders of the machine as volumes.
pub(crate) const HOST_FOLDER: Need =
    Need::embedded("only the embedded cluster adopts a folder of the machine as a volume");
/// The power cut.
pub(crate) const POWER_CUT: Need = Need::embedded(
    "here the whole cluster dies; on a real one, tests/operations kill operator and containerd",
);
/// The stop in good order.
pub(crate) const RESTART: Need = Need::embedded(
    "here the whole cluster restarts; on a real one, tests/operations restart its parts",
);
/// The lock of the data folder.
pub(crate) const DATA_FOLDER: Need =
    Need::embedded("a real cluster has no data folder that two could open");
/// `syncline up --filename`.
pub(crate) const START: Need = Need::embedded("`syncline up` starts no real cluster");
/// Copies that are not of one instant.
pub(crate) const TORN_COPIES: Need = Need::embedded(
    "a real cluster's CSI driver answers for its copies itself; the embedded one says how they were made",
);
/// Processes of pods.
pub(crate) const PROCESSES: Need =
    Need::processes("the processes of movers must run on this machine to be killed from outside");

/// Root, to give files away.
pub(crate) const ROOT: Need =
    Need::root("only root may make files of other owners, in a folder or from an archive");

/// The Pod Security Standards.
pub(crate) const POD_SECURITY: Need = Need::real(
    "only a real cluster has an admission that holds pods against the Pod Security Standards",
);

/// Snapshots, clones and volumes that fail on request.
pub(crate) const VOLUME_FAULTS: Need = Need::own_real(
    "only the CSI driver of tests/cluster fails on request; the embedded cluster makes volumes itself",
);
/// The storage class whose volumes are made for their first pod.
pub(crate) const WAITING_CLASS: Need = Need::own_real(
    "the cluster of tests/cluster has a storage class with WaitForFirstConsumer that makes snapshots",
);

/// The storage class whose volumes fill up.
pub(crate) const LIMITED_CLASS: Need = Need::own_real(
    "the cluster of tests/cluster has a storage class whose volumes hold no more than their capacity",
);

/// Services of type `LoadBalancer` that nobody serves.
pub(crate) const NO_BALANCER: Need = Need::own_real(
    "the embedded cluster serves load balancers itself, as many others do; that of tests/cluster has none",
);

/// Devices of pods without root.
pub(crate) const DEVICES_FOR_ALL: Need = Need::own_real(
    "a cluster's container runtime decides who may open a device; that of tests/cluster gives it to the pod's user",
);

/// Nodes, and snapshot classes of a name that is known.
pub(crate) const NODES: Need = Need::own_real(
    "only a real cluster has nodes to choose from, and that of tests/cluster a snapshot class of a known name",
);

/// Names of Services.
pub(crate) const SERVICE_NAMES: Need =
    Need::real("only a real cluster answers for the names of Services");

/// Quotas.
pub(crate) const QUOTAS: Need =
    Need::real("the embedded cluster refuses nothing by a ResourceQuota, as it has none");

/// Policies that change what is made.
pub(crate) const ADMISSION_POLICIES: Need = Need::own_real(
    "only a real cluster changes objects on their way in, and that of tests/cluster does so without a webhook",
);

/// Accounts of the movers' image.
pub(crate) const ACCOUNTS: Need = Need::embedded(
    "the embedded cluster makes the accounts that a pod asks for; in an image there are those that were put there",
);

/// A store that pods reach, and that fails on request.
pub(crate) const STORE: Need = Need::store(
    "the servers of stores run beside the tests, where only pods of a cluster on this machine reach them",
);

/// Both a store and root.
pub(crate) fn store_and_root() -> Need {
    if ROOT.is_met() { STORE } else { ROOT }
}

/// All of the above.
const ALL: [Need; 21] = [
    STORE,
    SERVICE_NAMES,
    QUOTAS,
    ADMISSION_POLICIES,
    NO_BALANCER,
    NODES,
    LIMITED_CLASS,
    DEVICES_FOR_ALL,
    ACCOUNTS,
    VOLUME_FAULTS,
    WAITING_CLASS,
    POD_SECURITY,
    ROOT,
    ORDINARY_USER,
    HOST_FOLDER,
    POWER_CUT,
    RESTART,
    DATA_FOLDER,
    START,
    TORN_COPIES,
    PROCESSES,
];

#[test]
fn every_need_gives_a_reason_of_its_own() {
    for need in ALL {
        assert!(need.reason().split_whitespace().count() > 5, "{need:?}");
        let same = ALL.iter().filter(|other| other.reason() == need.reason());
        assert_eq!(same.count(), 1, "{need:?}");
    }
}

#[test]
fn every_need_is_on_the_list_and_used() {
    let own = include_str!("needs.rs");
    let listed = own.split("const ALL").nth(1).unwrap_or_default();
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios"));
    let suite = syncline_testkit::corpus::files_below(folder)
        .unwrap()
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| name != "needs.rs"))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect::<String>();
    for line in own.lines() {
        let Some(rest) = line.strip_prefix("pub(crate) const ") else {
            continue;
        };
        let name = rest.split(':').next().unwrap_or_default();
        assert!(listed.contains(name), "{name} is not on the list");
        assert!(
            suite.contains(&format!("needs::{name}")),
            "{name} is not used"
        );
    }
    assert!(
        !suite.contains("Need::"),
        "a need outside of needs.rs: put it on the list"
    );
}
