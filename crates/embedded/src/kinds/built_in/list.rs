//! Which kinds are built in.

use super::BuiltIn;
use crate::kinds::meta::NameRule;

/// One row of the table: group, kind, plural, the package of its struct, traits.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static [Trait],
);

/// What sets a kind apart from a namespaced one without status.
#[derive(Clone, Copy)]
enum Trait {
    /// Not in a namespace.
    Cluster,
    /// Has a status subresource.
    Status,
    /// A change of its spec raises `metadata.generation`.
    Generations,
    /// Its short names.
    Short(&'static [&'static str]),
    /// Its categories.
    In(&'static [&'static str]),
    /// How its names are formed, if not as subdomains.
    Named(NameRule),
}

use Trait::{Cluster, Generations, In, Named, Short, Status};

const CORE: &str = "io.k8s.api.core.v1";
const RBAC: &str = "io.k8s.api.rbac.v1";
const RBAC_GROUP: &str = "rbac.authorization.k8s.io";
const EXTENSIONS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1";
const ALL: Trait = In(&["all"]);
const PATH: Trait = Named(NameRule::PathSegment);

#[rustfmt::skip]
const ROWS: &[Row] = &[
    ("", "ConfigMap", "configmaps", CORE, &[Short(&["cm"])]),
    ("", "Endpoints", "endpoints", CORE, &[Short(&["ep"])]),
    ("", "Event", "events", CORE, &[Short(&["ev"])]),
    ("", "Namespace", "namespaces", CORE, &[Cluster, Status, Short(&["ns"]), Named(NameRule::Label)]),
    ("", "Node", "nodes", CORE, &[Cluster, Status, Short(&["no"])]),
    ("", "PersistentVolumeClaim", "persistentvolumeclaims", CORE, &[Status, Short(&["pvc"])]),
    ("", "PersistentVolume", "persistentvolumes", CORE, &[Cluster, Status, Short(&["pv"])]),
    ("", "Pod", "pods", CORE, &[Status, Generations, Short(&["po"]), ALL]),
    ("", "Secret", "secrets", CORE, &[]),
    ("", "ServiceAccount", "serviceaccounts", CORE, &[Short(&["sa"])]),
    ("", "Service", "services", CORE, &[Status, Short(&["svc"]), ALL, Named(NameRule::Dns1035)]),
    ("apiextensions.k8s.io", "CustomResourceDefinition", "customresourcedefinitions", EXTENSIONS,
        &[Cluster, Status, Generations, Short(&["crd", "crds"]), In(&["api-extensions"])]),
    ("authorization.k8s.io", "SelfSubjectAccessReview", "selfsubjectaccessreviews", "io.k8s.api.authorization.v1", &[Cluster]),
    ("batch", "Job", "jobs", "io.k8s.api.batch.v1", &[Status, Generations, ALL]),
    ("coordination.k8s.io", "Lease", "leases", "io.k8s.api.coordination.v1", &[]),
    ("events.k8s.io", "Event", "events", "io.k8s.api.events.v1", &[Short(&["ev"])]),
    (RBAC_GROUP, "ClusterRoleBinding", "clusterrolebindings", RBAC, &[Cluster, PATH]),
    (RBAC_GROUP, "ClusterRole", "clusterroles", RBAC, &[Cluster, PATH]),
    (RBAC_GROUP, "RoleBinding", "rolebindings", RBAC, &[PATH]),
    (RBAC_GROUP, "Role", "roles", RBAC, &[PATH]),
    ("storage.k8s.io", "StorageClass", "storageclasses", "io.k8s.api.storage.v1", &[Cluster, Short(&["sc"])]),
];

/// Every built-in kind, sorted by group.
pub(in crate::kinds) fn all() -> Vec<BuiltIn> {
    ROWS.iter().map(built).collect()
}

fn built(&(group, kind, plural, package, traits): &Row) -> BuiltIn {
    let mut built = BuiltIn {
        group,
        kind,
        plural,
        namespaced: true,
        has_status: false,
        counts_generations: false,
        short_names: &[],
        categories: &[],
        struct_name: format!("{package}.{kind}"),
        names: NameRule::Subdomain,
    };
    for one in traits {
        match *one {
            Cluster => built.namespaced = false,
            Status => built.has_status = true,
            Generations => built.counts_generations = true,
            Short(names) => built.short_names = names,
            In(categories) => built.categories = categories,
            Named(rule) => built.names = rule,
        }
    }
    built
}
