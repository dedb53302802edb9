//! What the definitions demand and forbid, and whether the files in `deploy/crds` say the same.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

/// The schema of a kind: 0 for the source, 1 for the destination.
pub(crate) fn schema(kind: usize) -> Value {
    let definition = serde_json::to_value(&syncline_api::crds()[kind]).expect("JSON");
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

fn schemas() -> [Value; 2] {
    [schema(0), schema(1)]
}

/// Calls `visit` with every schema below `schema` and its path.
fn each(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        each(property, &format!("{path}.{name}"), visit);
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get(inner) {
            each(inner, &format!("{path}[]"), visit);
        }
    }
}

#[test]
fn both_kinds_have_volsyncs_names_and_columns() {
    let definitions = syncline_api::crds();
    let expected = [
        (
            "ReplicationSource",
            "replicationsources",
            "replicationsource",
            4,
        ),
        (
            "ReplicationDestination",
            "replicationdestinations",
            "replicationdestination",
            3,
        ),
    ];
    for (definition, (kind, plural, singular, columns)) in definitions.iter().zip(expected) {
        assert_eq!(
            definition.metadata.name,
            Some(format!("{plural}.volsync.backube"))
        );
        let names = &definition.spec.names;
        assert_eq!((names.kind.as_str(), names.plural.as_str()), (kind, plural));
        assert_eq!(names.singular.as_deref(), Some(singular));
        assert_eq!((&names.short_names, &names.categories), (&None, &None));
        assert_eq!(definition.spec.scope, "Namespaced");
        let [version] = definition.spec.versions.as_slice() else {
            panic!("one version")
        };
        assert_eq!(
            (version.name.as_str(), version.served, version.storage),
            ("v1alpha1", true, true)
        );
        let subresources = version.subresources.as_ref().expect("status");
        assert!(subresources.status.is_some() && subresources.scale.is_none());
        let printed = version
            .additional_printer_columns
            .as_ref()
            .expect("columns");
        assert_eq!(printed.len(), columns);
        let last: Vec<_> = printed.iter().rev().take(3).rev().collect();
        let texts: Vec<_> = last
            .iter()
            .map(|column| (column.name.as_str(), column.json_path.as_str()))
            .collect();
        assert_eq!(
            texts,
            [
                ("Last sync", ".status.lastSyncTime"),
                ("Duration", ".status.lastSyncDuration"),
                ("Next sync", ".status.nextSyncTime")
            ]
        );
        assert_eq!(last[0].format.as_deref(), Some("date-time"));
        assert!(printed.iter().all(|column| column.type_ == "string"));
    }
}

/// What an API server demands of a structural schema, as far as ours could break it.
#[test]
fn the_schemas_are_structural() {
    for root in schemas() {
        each(&root, "", &mut |path, schema| {
            let fields = schema.as_object().expect("an object");
            let any = fields.contains_key("x-kubernetes-int-or-string");
            assert!(
                any || fields.get("type").is_some_and(Value::is_string),
                "{path} has one type: {schema}"
            );
            for forbidden in [
                "nullable",
                "oneOf",
                "allOf",
                "not",
                "$ref",
                "default",
                "title",
                "definitions",
                "const",
            ] {
                assert!(!fields.contains_key(forbidden), "{path} has {forbidden}");
            }
            assert_eq!(fields.contains_key("anyOf"), any, "{path}");
            assert!(
                !(fields.contains_key("properties") && fields.contains_key("additionalProperties")),
                "{path}"
            );
            assert_eq!(
                fields.get("type") == Some(&json!("array")),
                fields.contains_key("items"),
                "{path}"
            );
            let open =
                fields.contains_key("properties") || fields.contains_key("additionalProperties");
            assert_eq!(
                fields.get("type") == Some(&json!("object")),
                open || path == ".metadata",
                "{path}"
            );
            assert!(
                !fields.contains_key("x-kubernetes-preserve-unknown-fields"),
                "{path}"
            );
            for required in fields
                .get("required")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                assert!(
                    schema["properties"]
                        .get(required.as_str().expect("a name"))
                        .is_some(),
                    "{path} {required}"
                );
            }
            if let Some(values) = fields.get("enum") {
                assert!(
                    values
                        .as_array()
                        .expect("a list")
                        .iter()
                        .all(Value::is_string),
                    "{path}"
                );
            }
        });
    }
}

#[test]
fn nothing_is_required_but_what_list_items_need() {
    let mut required = requirements();
    let expected = [
        (
            "conditions[]",
            json!(["lastTransitionTime", "message", "reason", "status", "type"]),
        ),
        ("latestImage", json!(["kind", "name"])),
        ("moverVolumes[]", json!(["mountPath", "volumeSource"])),
        ("nfs", json!(["path", "server"])),
        ("persistentVolumeClaim", json!(["claimName"])),
        ("items[]", json!(["key", "path"])),
        ("claims[]", json!(["name"])),
        ("sysctls[]", json!(["name", "value"])),
        ("appArmorProfile", json!(["type"])),
        ("seccompProfile", json!(["type"])),
        ("matchExpressions[]", json!(["key", "operator"])),
        ("matchFields[]", json!(["key", "operator"])),
        ("podAffinityTerm", json!(["topologyKey"])),
    ];
    for (name, names) in expected {
        let found = required
            .remove(name)
            .unwrap_or_else(|| panic!("{name} requires nothing"));
        assert!(
            found.iter().all(|found| sorted(found) == sorted(&names)),
            "{name}: {found:?}"
        );
    }
    let peers = required.remove("peers[]").expect("peers require");
    assert!(
        peers
            .iter()
            .any(|names| sorted(names) == ["ID", "address", "introducer"])
    );
    assert!(
        peers
            .iter()
            .any(|names| sorted(names) == ["ID", "address", "connected"])
    );
    // Pods' and nodes' terms have the same name and other needs.
    let preferred = required
        .remove("preferredDuringSchedulingIgnoredDuringExecution[]")
        .expect("terms require");
    assert!(preferred.iter().all(|names| {
        names
            .as_array()
            .is_some_and(|names| names.contains(&json!("weight")))
    }));
    let terms = required
        .remove("requiredDuringSchedulingIgnoredDuringExecution[]")
        .expect("terms require");
    assert!(terms.iter().all(|names| *names == json!(["topologyKey"])));
    let nodes = required
        .remove("requiredDuringSchedulingIgnoredDuringExecution")
        .expect("terms require");
    assert!(
        nodes
            .iter()
            .all(|names| *names == json!(["nodeSelectorTerms"]))
    );
    assert!(required.is_empty(), "{required:?}");
}

/// What is required, by the last part of the path of what requires it.
fn requirements() -> BTreeMap<String, Vec<Value>> {
    let mut required = BTreeMap::new();
    for root in schemas() {
        each(&root, "", &mut |path, schema| {
            if let Some(names) = schema.get("required") {
                let last = path.rsplit('.').next().expect("a field").to_owned();
                required
                    .entry(last)
                    .or_insert_with(Vec::new)
                    .push(names.clone());
            }
        });
    }
    required
}

fn sorted(names: &Value) -> Vec<&str> {
    let mut names: Vec<_> = names
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn the_constraints_are_volsyncs() {
    let mut enums = 0;
    for root in schemas() {
        let spec = &root["properties"]["spec"];
        let schedule = &spec["properties"]["trigger"]["properties"]["schedule"];
        assert_eq!(
            schedule["pattern"],
            r"^(@(annually|yearly|monthly|weekly|daily|hourly))|((((\d+,)*\d+|(\d+(\/|-)\d+)|\*(\/\d+)?)\s?){5})$"
        );
        each(spec, "", &mut |path, schema| {
            let name = path.rsplit('.').next().expect("a field");
            match name {
                "copyMethod" => assert_eq!(
                    schema["enum"],
                    json!(["Direct", "None", "Clone", "Snapshot"]),
                    "{path}"
                ),
                "port" => assert_eq!(
                    (&schema["minimum"], &schema["maximum"]),
                    (&json!(0.0), &json!(65535.0))
                ),
                _ => {}
            }
            enums += usize::from(schema.get("enum").is_some());
            assert!(
                schema.get("enum").is_none() || name == "copyMethod",
                "{path}"
            );
            assert_eq!(
                schema.get("minItems"),
                (name == "accessModes").then_some(&json!(1)),
                "{path}"
            );
            assert_eq!(
                schema.get("pattern").is_some(),
                name == "schedule" || schema.get("anyOf").is_some(),
                "{path}"
            );
        });
    }
    assert_eq!(enums, 8, "four movers at either end");
}

#[test]
fn the_schedules_pattern_admits_and_refuses_what_the_api_does() {
    let schema = schema(0);
    let pattern =
        schema["properties"]["spec"]["properties"]["trigger"]["properties"]["schedule"]["pattern"]
            .as_str();
    let pattern = regex::Regex::new(pattern.expect("a pattern")).expect("a regular expression");
    for admitted in [
        "@hourlyjunk",
        "junk 0 0 * * *",
        "12345",
        "* * * * * *",
        "0-30/5 * * * *",
        "1-5,10 * * * *",
        "TZ=UTC 0 0 * * *",
        "CRON_TZ=Europe/Paris 0 2 * * *",
        "19 */3 * * * ",
    ] {
        assert!(pattern.is_match(admitted), "{admitted}");
    }
    for refused in [
        "0 0 * * MON",
        "@every 5m",
        "@midnight",
        "?",
        "L",
        "0 0 1-5/2 * *",
        "0 0 1-5,7 * *",
        "",
    ] {
        assert!(!pattern.is_match(refused), "{refused}");
    }
}

#[test]
fn the_files_in_deploy_are_up_to_date() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/crds");
    for definition in syncline_api::crds() {
        let path = folder.join(format!(
            "volsync.backube_{}.yaml",
            definition.spec.names.plural
        ));
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let found: Value = serde_saphyr::from_str(&text).expect("YAML");
        let expected = serde_json::to_value(&definition).expect("JSON");
        assert_eq!(
            as_floats(found),
            as_floats(expected),
            "{} is stale; run `make crds`",
            path.display()
        );
    }
}

/// 1 and 1.0 are the same number in YAML's eyes and in the API server's.
fn as_floats(value: Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(values) => values.into_iter().map(as_floats).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(key, value)| (key, as_floats(value)))
            .collect(),
        other => other,
    }
}

#[test]
fn a_definition_fits_into_the_annotation_of_kubectl_apply() {
    for definition in syncline_api::crds() {
        let length = serde_json::to_string(&definition).expect("JSON").len();
        assert!(
            length < 200_000,
            "{length} bytes; an object's annotations may have 262144 together"
        );
    }
}
