//! What a claim is to be filled with.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;

/// A claim's data source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) group: String,
    pub(super) kind: String,
    pub(super) name: String,
}

/// The data source, from either field.
pub(super) fn of(claim: &PersistentVolumeClaim) -> Option<Origin> {
    let spec = claim.spec.as_ref()?;
    if let Some(source) = &spec.data_source_ref {
        return Some(Origin {
            group: source.api_group.clone().unwrap_or_default(),
            kind: source.kind.clone(),
            name: source.name.clone(),
        });
    }
    let source = spec.data_source.as_ref()?;
    Some(Origin {
        group: source.api_group.clone().unwrap_or_default(),
        kind: source.kind.clone(),
        name: source.name.clone(),
    })
}

/// Whether the claim is to be filled with this object of its namespace.
pub(super) fn is(claim: &PersistentVolumeClaim, kind: &str, name: &str) -> bool {
    of(claim).is_some_and(|origin| origin.kind == kind && origin.name == name)
}
