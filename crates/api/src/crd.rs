//! The two `CustomResourceDefinition`s.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, CustomResourceDefinitionNames,
    CustomResourceDefinitionSpec, CustomResourceDefinitionVersion, CustomResourceSubresourceStatus,
    CustomResourceSubresources, CustomResourceValidation,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::crd::v1::CustomResourceExt as _;
use schemars::JsonSchema;

use crate::{ReplicationDestination, ReplicationSource};

/// What a definition needs to know of a kind beyond its names.
pub(crate) trait Kind: kube::Resource<DynamicType = ()> {
    type Spec: JsonSchema;
    type Status: JsonSchema;
    const SINGULAR: &'static str;
    const COLUMNS: &'static [Column];
}

/// A column that `kubectl get` prints.
pub(crate) struct Column {
    name: &'static str,
    json_path: &'static str,
    format: Option<&'static str>,
}

const LAST_SYNC: Column = Column {
    name: "Last sync",
    json_path: ".status.lastSyncTime",
    format: Some("date-time"),
};
const DURATION: Column = Column {
    name: "Duration",
    json_path: ".status.lastSyncDuration",
    format: None,
};
const NEXT_SYNC: Column = Column {
    name: "Next sync",
    json_path: ".status.nextSyncTime",
    format: Some("date-time"),
};

pub(crate) const SOURCE_COLUMNS: &[Column] = &[
    Column {
        name: "Source",
        json_path: ".spec.sourcePVC",
        format: None,
    },
    LAST_SYNC,
    DURATION,
    NEXT_SYNC,
];
pub(crate) const DESTINATION_COLUMNS: &[Column] = &[LAST_SYNC, DURATION, NEXT_SYNC];

/// The definitions of both kinds, the source's first: what `deploy/crds/` holds and what a cluster is given.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![ReplicationSource::crd(), ReplicationDestination::crd()]
}

/// The definition of one kind.
pub(crate) fn definition<K: Kind>() -> CustomResourceDefinition {
    let plural = K::plural(&()).into_owned();
    CustomResourceDefinition {
        metadata: ObjectMeta {
            name: Some(format!("{plural}.{}", crate::GROUP)),
            ..ObjectMeta::default()
        },
        spec: CustomResourceDefinitionSpec {
            group: crate::GROUP.to_owned(),
            names: CustomResourceDefinitionNames {
                kind: K::kind(&()).into_owned(),
                list_kind: Some(format!("{}List", K::kind(&()))),
                plural,
                singular: Some(K::SINGULAR.to_owned()),
                ..CustomResourceDefinitionNames::default()
            },
            scope: "Namespaced".to_owned(),
            versions: vec![CustomResourceDefinitionVersion {
                name: crate::VERSION.to_owned(),
                served: true,
                storage: true,
                additional_printer_columns: Some(K::COLUMNS.iter().map(printed).collect()),
                schema: Some(CustomResourceValidation {
                    open_api_v3_schema: Some(crate::schema::root::<K::Spec, K::Status>(&K::kind(
                        &(),
                    ))),
                }),
                subresources: Some(CustomResourceSubresources {
                    scale: None,
                    status: Some(CustomResourceSubresourceStatus(serde_json::json!({}))),
                }),
                ..CustomResourceDefinitionVersion::default()
            }],
            ..CustomResourceDefinitionSpec::default()
        },
        status: None,
    }
}

fn printed(column: &Column) -> CustomResourceColumnDefinition {
    CustomResourceColumnDefinition {
        name: column.name.to_owned(),
        json_path: column.json_path.to_owned(),
        type_: "string".to_owned(),
        format: column.format.map(str::to_owned),
        ..CustomResourceColumnDefinition::default()
    }
}
