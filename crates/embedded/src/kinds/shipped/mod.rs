//! Definitions that every embedded cluster has from its start.

use serde_json::Value;

use super::{FieldValidation, Registry};

const SNAPSHOTS: &str = include_str!("snapshots.yaml");

/// The definitions of snapshots, with their defaults, as a client would create them.
pub(crate) fn definitions() -> Vec<Value> {
    let registry = Registry::built_in();
    let Some(kind) = registry.find("apiextensions.k8s.io", "v1", "customresourcedefinitions")
    else {
        return Vec::new();
    };
    SNAPSHOTS
        .split("\n---\n")
        .filter_map(|text| {
            kind.decode("application/yaml", text.as_bytes(), FieldValidation::Strict)
                .ok()
        })
        .map(|decoded| {
            let mut definition = decoded.object;
            kind.default(&mut definition, None);
            definition
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_shipped_definitions_are_read_strictly_and_served() {
        let definitions = definitions();
        assert_eq!(definitions.len(), 3);
        let mut registry = Registry::built_in();
        for definition in &definitions {
            assert_eq!(registry.install(definition), Ok(()));
        }
        let snapshots = registry
            .find("snapshot.storage.k8s.io", "v1", "volumesnapshots")
            .unwrap();
        assert!(snapshots.namespaced() && snapshots.has_status());
        let both = json!({
            "metadata": { "name": "s" },
            "spec": { "source": { "persistentVolumeClaimName": "a", "volumeSnapshotContentName": "b" } },
        });
        let faults = snapshots.validate_create(&both);
        assert!(
            faults
                .iter()
                .any(|fault| fault.message.contains("one and only one")),
            "{faults:?}"
        );
    }
}
