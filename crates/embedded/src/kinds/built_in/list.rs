//! Which kinds are built in.

use super::BuiltIn;
use crate::kinds::meta::NameRule;

macro_rules! kind {
    ($group:literal, $kind:literal, $plural:literal, $struct_name:literal) => {
        BuiltIn {
            group: $group,
            kind: $kind,
            plural: $plural,
            namespaced: true,
            has_status: false,
            counts_generations: false,
            short_names: &[],
            categories: &[],
            struct_name: $struct_name,
            names: NameRule::Subdomain,
        }
    };
}

/// Every built-in kind, sorted by group and plural.
pub(in crate::kinds) fn all() -> Vec<BuiltIn> {
    let mut kinds = core();
    kinds.extend(groups());
    kinds
}

fn core() -> Vec<BuiltIn> {
    vec![
        BuiltIn {
            short_names: &["cm"],
            ..kind!(
                "",
                "ConfigMap",
                "configmaps",
                "io.k8s.api.core.v1.ConfigMap"
            )
        },
        BuiltIn {
            short_names: &["ep"],
            ..kind!("", "Endpoints", "endpoints", "io.k8s.api.core.v1.Endpoints")
        },
        BuiltIn {
            short_names: &["ev"],
            ..kind!("", "Event", "events", "io.k8s.api.core.v1.Event")
        },
        BuiltIn {
            namespaced: false,
            has_status: true,
            short_names: &["ns"],
            names: NameRule::Label,
            ..kind!(
                "",
                "Namespace",
                "namespaces",
                "io.k8s.api.core.v1.Namespace"
            )
        },
        BuiltIn {
            namespaced: false,
            has_status: true,
            short_names: &["no"],
            ..kind!("", "Node", "nodes", "io.k8s.api.core.v1.Node")
        },
        BuiltIn {
            has_status: true,
            short_names: &["pvc"],
            ..kind!(
                "",
                "PersistentVolumeClaim",
                "persistentvolumeclaims",
                "io.k8s.api.core.v1.PersistentVolumeClaim"
            )
        },
        BuiltIn {
            namespaced: false,
            has_status: true,
            short_names: &["pv"],
            ..kind!(
                "",
                "PersistentVolume",
                "persistentvolumes",
                "io.k8s.api.core.v1.PersistentVolume"
            )
        },
        BuiltIn {
            has_status: true,
            counts_generations: true,
            short_names: &["po"],
            categories: &["all"],
            ..kind!("", "Pod", "pods", "io.k8s.api.core.v1.Pod")
        },
        kind!("", "Secret", "secrets", "io.k8s.api.core.v1.Secret"),
        BuiltIn {
            short_names: &["sa"],
            ..kind!(
                "",
                "ServiceAccount",
                "serviceaccounts",
                "io.k8s.api.core.v1.ServiceAccount"
            )
        },
        BuiltIn {
            has_status: true,
            short_names: &["svc"],
            categories: &["all"],
            names: NameRule::Dns1035,
            ..kind!("", "Service", "services", "io.k8s.api.core.v1.Service")
        },
    ]
}

fn groups() -> Vec<BuiltIn> {
    let rbac = |kind: BuiltIn| BuiltIn {
        names: NameRule::PathSegment,
        ..kind
    };
    vec![
        BuiltIn {
            namespaced: false,
            has_status: true,
            counts_generations: true,
            short_names: &["crd", "crds"],
            categories: &["api-extensions"],
            ..kind!(
                "apiextensions.k8s.io",
                "CustomResourceDefinition",
                "customresourcedefinitions",
                "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition"
            )
        },
        BuiltIn {
            namespaced: false,
            ..kind!(
                "authorization.k8s.io",
                "SelfSubjectAccessReview",
                "selfsubjectaccessreviews",
                "io.k8s.api.authorization.v1.SelfSubjectAccessReview"
            )
        },
        BuiltIn {
            has_status: true,
            counts_generations: true,
            categories: &["all"],
            ..kind!("batch", "Job", "jobs", "io.k8s.api.batch.v1.Job")
        },
        kind!(
            "coordination.k8s.io",
            "Lease",
            "leases",
            "io.k8s.api.coordination.v1.Lease"
        ),
        BuiltIn {
            short_names: &["ev"],
            ..kind!(
                "events.k8s.io",
                "Event",
                "events",
                "io.k8s.api.events.v1.Event"
            )
        },
        rbac(BuiltIn {
            namespaced: false,
            ..kind!(
                "rbac.authorization.k8s.io",
                "ClusterRoleBinding",
                "clusterrolebindings",
                "io.k8s.api.rbac.v1.ClusterRoleBinding"
            )
        }),
        rbac(BuiltIn {
            namespaced: false,
            ..kind!(
                "rbac.authorization.k8s.io",
                "ClusterRole",
                "clusterroles",
                "io.k8s.api.rbac.v1.ClusterRole"
            )
        }),
        rbac(kind!(
            "rbac.authorization.k8s.io",
            "RoleBinding",
            "rolebindings",
            "io.k8s.api.rbac.v1.RoleBinding"
        )),
        rbac(kind!(
            "rbac.authorization.k8s.io",
            "Role",
            "roles",
            "io.k8s.api.rbac.v1.Role"
        )),
        BuiltIn {
            namespaced: false,
            short_names: &["sc"],
            ..kind!(
                "storage.k8s.io",
                "StorageClass",
                "storageclasses",
                "io.k8s.api.storage.v1.StorageClass"
            )
        },
    ]
}
