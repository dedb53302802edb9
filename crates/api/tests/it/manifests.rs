//! Whatever the schemas admit comes through the types unharmed.

use kube::Resource as _;
use serde_json::{Map, Value, json};
use syncline_api::movers::CopyMethod;
use syncline_api::{ReplicationDestination, ReplicationSource, ReplicationSourceSpec};

/// Picks by a seed. A strategy of proptest for a schema of three hundred fields would take minutes.
struct Picks(u64);

impl Picks {
    /// The next number below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn one_of<'a>(&mut self, texts: &[&'a str]) -> &'a str {
        texts[usize::try_from(self.below(texts.len() as u64)).expect("an index")]
    }

    /// A value that a schema admits, and what it is to look like once it was read and written.
    fn value(&mut self, schema: &Value, name: &str) -> (Value, Value) {
        if schema.get("x-kubernetes-int-or-string").is_some() {
            let number = self.below(1 << 20);
            let text = format!("{number}{}", self.one_of(&["", "Mi", "Gi", "m"]));
            return if self.below(2) == 0 {
                (json!(number), json!(number.to_string()))
            } else {
                same(json!(text))
            };
        }
        if let Some(values) = schema.get("enum").and_then(Value::as_array) {
            let texts: Vec<_> = values.iter().filter_map(Value::as_str).collect();
            return same(json!(self.one_of(&texts)));
        }
        let format = schema
            .get("format")
            .and_then(Value::as_str)
            .unwrap_or_default();
        match (schema["type"].as_str().expect("a type"), format) {
            ("array", _) => {
                let length = 1 + self.below(2);
                let (given, expected): (Vec<_>, Vec<_>) = (0..length)
                    .map(|_| self.value(&schema["items"], ""))
                    .unzip();
                (given.into(), expected.into())
            }
            ("object", _) => self.object(schema),
            ("string", format) => same(json!(self.text(name, format))),
            ("boolean", _) => same(json!(self.below(2) == 0)),
            ("integer", "int64") => same(json!(self.below(1 << 31) << 31)),
            ("integer", _) => same(json!(self.below(65_536))),
            (other, _) => panic!("{name} has type {other}"),
        }
    }

    fn text(&mut self, name: &str, format: &str) -> String {
        if format == "date-time" {
            let second = self.below(2_000_000_000).try_into().expect("a second");
            return jiff::Timestamp::from_second(second)
                .expect("a time")
                .to_string();
        }
        let texts: &[&str] = match name {
            "lastSyncDuration" => &["28.818695981s", "1m2.5s", "350ms", "0s", "2h0m0s"],
            "result" => &["Successful", "Failed"],
            "schedule" => &["*/5 * * * *", "@hourly"],
            _ => &[
                "a",
                "ö",
                "two words",
                "",
                "null",
                "true",
                "1",
                "\"\\\n",
                "🦀",
            ],
        };
        self.one_of(texts).to_owned()
    }

    fn object(&mut self, schema: &Value) -> (Value, Value) {
        let (mut given, mut expected) = (Map::new(), Map::new());
        let mut add = |name: &str, (first, second): (Value, Value)| {
            given.insert(name.to_owned(), first);
            expected.insert(name.to_owned(), second);
        };
        if let Some(values) = schema.get("additionalProperties") {
            for name in ["a", "b.c/d"] {
                add(name, self.value(values, ""));
            }
        }
        let required = schema["required"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            if required.contains(&json!(name)) || self.below(10) < 7 {
                add(name, self.value(property, name));
            }
        }
        (given.into(), expected.into())
    }
}

fn same(value: Value) -> (Value, Value) {
    (value.clone(), value)
}

/// An object of a kind as it was given, and as it is to look like.
fn manifest(schema: &Value, kind: &str, seed: u64) -> (Value, Value) {
    let mut picks = Picks(seed);
    let properties = &schema["properties"];
    let (spec, expected_spec) = picks.value(&properties["spec"], "spec");
    let (status, expected_status) = picks.value(&properties["status"], "status");
    let whole = |spec: Value, status: Value| {
        json!({
            "apiVersion": "volsync.backube/v1alpha1",
            "kind": kind,
            "metadata": { "name": "a", "namespace": "b" },
            "spec": spec,
            "status": status,
        })
    };
    (whole(spec, status), whole(expected_spec, expected_status))
}

#[test]
fn a_source_loses_nothing() {
    let schema = super::schemas::schema(0);
    for seed in 0..300 {
        let (given, expected) = manifest(&schema, "ReplicationSource", seed);
        let read: ReplicationSource = serde_json::from_value(given).expect("the schema admits it");
        assert_eq!(
            serde_json::to_value(&read).expect("JSON"),
            expected,
            "seed {seed}"
        );
    }
}

#[test]
fn a_destination_loses_nothing() {
    let schema = super::schemas::schema(1);
    for seed in 0..300 {
        let (given, expected) = manifest(&schema, "ReplicationDestination", seed);
        let read: ReplicationDestination =
            serde_json::from_value(given).expect("the schema admits it");
        assert_eq!(
            serde_json::to_value(&read).expect("JSON"),
            expected,
            "seed {seed}"
        );
    }
}

#[test]
fn an_object_without_a_spec_can_be_read() {
    let bare = json!({ "apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationSource", "metadata": { "name": "a" } });
    let read: ReplicationSource =
        serde_json::from_value(bare).expect("the schema requires nothing");
    assert_eq!(
        read,
        ReplicationSource::new("a", ReplicationSourceSpec::default())
    );
    assert_eq!(ReplicationSource::kind(&()), "ReplicationSource");
    assert_eq!(ReplicationSource::plural(&()), "replicationsources");
}

#[test]
fn a_status_that_somebody_else_wrote_does_not_make_the_object_unreadable() {
    let odd = json!({
        "metadata": { "name": "a" },
        "status": { "lastSyncDuration": "for ever", "latestMoverStatus": { "result": "Maybe", "logs": "kept" } },
    });
    let read: ReplicationDestination = serde_json::from_value(odd).expect("the schema admits it");
    let status = read.status.expect("it has one");
    assert_eq!(status.last_sync_duration, None);
    let mover = status.latest_mover_status.expect("it has one");
    assert_eq!((mover.result, mover.logs.as_deref()), (None, Some("kept")));
}

#[test]
fn the_manifest_of_the_documentation_is_understood() {
    let text = r#"
apiVersion: volsync.backube/v1alpha1
kind: ReplicationSource
metadata:
  name: mySource
  namespace: source
spec:
  sourcePVC: mysql-pv-claim
  trigger:
    schedule: "*/5 * * * *"
  rsync:
    sshKeys: volsync-rsync-dst-src-database-destination
    address: my.host.com
    copyMethod: Clone
    capacity: 10
"#;
    let source: ReplicationSource = serde_saphyr::from_str(text).expect("YAML");
    let rsync = source.spec.rsync.expect("the mover");
    assert_eq!(rsync.volume.copy_method, Some(CopyMethod::Clone));
    assert_eq!(rsync.volume.capacity.expect("a capacity").0, "10");
    assert_eq!(source.spec.source_pvc.as_deref(), Some("mysql-pv-claim"));
}
