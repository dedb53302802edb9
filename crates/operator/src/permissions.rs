//! What the operator does to a cluster, as a table: the roles of the chart and the page docs/permissions.md are written
//! from it by `xtask gen-rbac`, and the operator asks the API server for exactly these when it looks for what it lacks.
//!
//! Whoever lets the operator do more, adds a row here. Each row says what breaks without it.

/// Where a permission is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// In every namespace with replicated volumes: all of them, or the only one that is watched.
    Tenant,
    /// On objects that have no namespace. An operator that watches one namespace does without.
    Cluster,
    /// In the operator's own namespace.
    Own,
}

/// What a permission is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// Replication itself.
    Replication,
    /// Claims that are filled from a `ReplicationDestination`.
    Populator,
    /// Several operators that agree on the one that works.
    Election,
    /// Metrics for those only who may read them.
    MetricsAccess,
    /// Pull secrets of the operator's namespace, copied beside the movers.
    PullSecrets,
}

/// One row: some verbs on one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// The API group; empty for the core.
    pub group: &'static str,
    /// The resource, with its subresource.
    pub resource: &'static str,
    /// The verbs.
    pub verbs: &'static [&'static str],
    /// The only objects that are meant, by name; all of them when empty.
    pub names: &'static [&'static str],
    /// Where.
    pub scope: Scope,
    /// What for.
    pub feature: Feature,
    /// What it is used for, and so what breaks without it.
    pub why: &'static str,
    /// Why not every run shows it, where that is so.
    pub unseen: Option<&'static str>,
}

const VOLSYNC: &str = syncline_api::GROUP;
const SNAPSHOTS: &str = "snapshot.storage.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";
/// Applying an object takes `patch`, and `create` where it is not there yet.
const KEEP: &[&str] = &["get", "list", "watch", "create", "patch"];
const MANAGE: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];
const FOLLOW: &[&str] = &["get", "list", "watch"];
const PRUNED: &str = "only where VolSync's definitions drop fields of ours from the status";
const REGISTERED: &str =
    "only where the cluster keeps a register of populators with an entry of this name";
const FINALIZERS: &str = "only clusters with the admission plugin OwnerReferencesPermissionEnforcement, such as OpenShift, ask for it";

/// A row for replication in tenants' namespaces; others change what is different.
const fn tenant(
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
    why: &'static str,
) -> Permission {
    Permission {
        group,
        resource,
        verbs,
        names: &[],
        scope: Scope::Tenant,
        feature: Feature::Replication,
        why,
        unseen: None,
    }
}

const fn global(
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
    why: &'static str,
) -> Permission {
    Permission {
        scope: Scope::Cluster,
        ..tenant(group, resource, verbs, why)
    }
}

const fn populating(row: Permission) -> Permission {
    Permission {
        feature: Feature::Populator,
        ..row
    }
}

/// Everything that the operator does.
pub const PERMISSIONS: &[Permission] = &[
    tenant(
        VOLSYNC,
        "replicationsources",
        FOLLOW,
        "what is to be replicated",
    ),
    Permission {
        unseen: Some(PRUNED),
        ..tenant(
            VOLSYNC,
            "replicationsources",
            &["patch"],
            "remembering what has no field in the status",
        )
    },
    tenant(
        VOLSYNC,
        "replicationdestinations",
        FOLLOW,
        "what is to be received",
    ),
    Permission {
        unseen: Some(PRUNED),
        ..tenant(
            VOLSYNC,
            "replicationdestinations",
            &["patch"],
            "remembering what has no field in the status",
        )
    },
    tenant(
        VOLSYNC,
        "replicationsources/status",
        &["patch"],
        "how replication goes",
    ),
    tenant(
        VOLSYNC,
        "replicationdestinations/status",
        &["patch"],
        "how replication goes",
    ),
    Permission {
        unseen: Some(FINALIZERS),
        ..tenant(
            VOLSYNC,
            "replicationsources/finalizers",
            &["update"],
            "owning what is made for a source",
        )
    },
    Permission {
        unseen: Some(FINALIZERS),
        ..tenant(
            VOLSYNC,
            "replicationdestinations/finalizers",
            &["update"],
            "owning what is made for a destination",
        )
    },
    tenant("batch", "jobs", MANAGE, "the movers"),
    tenant(
        "",
        "pods",
        &["list", "watch"],
        "the movers' pods, and which node a volume is in use on",
    ),
    tenant(
        "",
        "pods/log",
        &["get"],
        "the movers' reports and last words",
    ),
    tenant("", "services", KEEP, "the address that a source sends to"),
    tenant(
        "",
        "serviceaccounts",
        KEEP,
        "the movers' identity, which has no rights",
    ),
    tenant(RBAC, "roles", KEEP, "the movers' role, which is empty"),
    tenant(RBAC, "rolebindings", KEEP, "that role's binding"),
    tenant(
        "",
        "secrets",
        KEEP,
        "the movers' keys; watched by metadata only, read by the names that a resource gives or that are the operator's own",
    ),
    tenant(
        "",
        "configmaps",
        FOLLOW,
        "the certificates that `customCA` names; watched by metadata only, read by that name",
    ),
    tenant(
        "",
        "persistentvolumeclaims",
        MANAGE,
        "volumes, and point-in-time copies of them",
    ),
    tenant(
        SNAPSHOTS,
        "volumesnapshots",
        MANAGE,
        "images, and what copies are made from",
    ),
    tenant(
        "",
        "events",
        &["list"],
        "why a pod or a volume does not come to be",
    ),
    tenant(
        "events.k8s.io",
        "events",
        &["create"],
        "what happened, told at the resource",
    ),
    global(
        "",
        "namespaces",
        &["get"],
        "whether movers may be privileged there, and which cluster this is to stores that several share",
    ),
    global(
        "",
        "nodes",
        &["get"],
        "the host name of the node that a volume is in use on",
    ),
    global(
        "storage.k8s.io",
        "storageclasses",
        FOLLOW,
        "whether a class that a resource names exists",
    ),
    global(
        SNAPSHOTS,
        "volumesnapshotclasses",
        FOLLOW,
        "whether a class that a resource names exists",
    ),
    populating(global(
        "",
        "persistentvolumes",
        &["get", "patch"],
        "giving the filled volume to the claim that waits",
    )),
    populating(global(
        "populator.storage.k8s.io",
        "volumepopulators",
        &["create"],
        "telling the cluster that claims can be filled from a ReplicationDestination",
    )),
    Permission {
        unseen: Some(REGISTERED),
        ..populating(global(
            "populator.storage.k8s.io",
            "volumepopulators",
            &["get", "patch"],
            "correcting an entry that says something else",
        ))
    },
    Permission {
        unseen: Some(FINALIZERS),
        ..populating(tenant(
            "",
            "persistentvolumeclaims/finalizers",
            &["update"],
            "owning the temporary claim that fills another one",
        ))
    },
    Permission {
        names: &["b95b3104.backube"],
        scope: Scope::Own,
        feature: Feature::Election,
        ..tenant(
            "coordination.k8s.io",
            "leases",
            &["get", "update"],
            "who of several operators works",
        )
    },
    Permission {
        scope: Scope::Own,
        feature: Feature::Election,
        ..tenant(
            "coordination.k8s.io",
            "leases",
            &["create"],
            "the first one's lease",
        )
    },
    Permission {
        scope: Scope::Own,
        feature: Feature::PullSecrets,
        ..tenant(
            "",
            "secrets",
            FOLLOW,
            "the pull secrets that movers' images need",
        )
    },
    Permission {
        feature: Feature::PullSecrets,
        unseen: Some(FINALIZERS),
        ..tenant(
            "",
            "secrets",
            &["delete"],
            "sharing the copy of a pull secret: whoever becomes a further owner needs the right to delete it",
        )
    },
    Permission {
        feature: Feature::MetricsAccess,
        ..global(
            "authentication.k8s.io",
            "tokenreviews",
            &["create"],
            "who asks for metrics",
        )
    },
    Permission {
        feature: Feature::MetricsAccess,
        ..global(
            "authorization.k8s.io",
            "subjectaccessreviews",
            &["create"],
            "whether they may have them",
        )
    },
];

impl Permission {
    /// The resource with its group, as `kubectl auth can-i` wants it.
    pub fn full_resource(&self) -> String {
        let Self {
            group, resource, ..
        } = self;
        match (group.is_empty(), resource.split_once('/')) {
            (true, _) => (*resource).to_owned(),
            (false, None) => format!("{resource}.{group}"),
            (false, Some((parent, sub))) => format!("{parent}.{group}/{sub}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn nothing_is_listed_twice_for_the_same_purpose() {
        let mut seen = BTreeSet::new();
        for row in PERMISSIONS {
            for verb in row.verbs {
                assert!(
                    seen.insert((row.scope, row.feature, row.group, row.resource, *verb)),
                    "{verb} {}",
                    row.full_resource()
                );
            }
        }
    }

    #[test]
    fn no_row_allows_more_than_it_names() {
        for row in PERMISSIONS {
            let all = [row.group, row.resource]
                .into_iter()
                .chain(row.verbs.iter().copied());
            assert!(all.into_iter().all(|word| !word.contains('*')), "{row:?}");
            assert!(!row.verbs.contains(&"deletecollection"), "{row:?}");
        }
    }

    #[test]
    fn resources_are_named_as_kubectl_names_them() {
        let names: Vec<String> = PERMISSIONS.iter().map(Permission::full_resource).collect();
        assert!(names.contains(&"replicationsources.volsync.backube/status".to_owned()));
        assert!(names.contains(&"pods/log".to_owned()));
    }
}
