//! From Rust types to structural schemas, as the tools of `VolSync` would have written them.
//!
//! schemars describes an optional field as "this or null", and Kubernetes' own types without their merge keys. An API
//! server wants one type per field, nothing nullable, quantities as integers or strings, and the merge keys. Everything
//! here is a pure rewriting of JSON.

use std::borrow::Cow;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// The pattern of `spec.trigger.schedule`, part of the API word for word.
///
/// Its alternatives are not grouped, so that the first is anchored only at the start and the second only at the end: it
/// admits more than the parser does, time zones among it, and refuses some that the parser reads.
pub(crate) const SCHEDULE_PATTERN: &str = r"^(@(annually|yearly|monthly|weekly|daily|hourly))|((((\d+,)*\d+|(\d+(\/|-)\d+)|\*(\/\d+)?)\s?){5})$";

const QUANTITY_PATTERN: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";
const CONDITION_REASON_PATTERN: &str = "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$";
const CONDITION_TYPE_PATTERN: &str = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$";

/// Longest description kept whole; of a longer one the first sentence is. Whole, the descriptions of Kubernetes' own
/// types would make each definition too large for the annotation in which `kubectl apply` keeps it.
const LONGEST_DESCRIPTION: usize = 240;

/// Objects that Kubernetes merges as one value. Named here because the published Rust types do not say so.
const ATOMIC_OBJECTS: [&str; 4] = [
    "labelSelector",
    "latestImage",
    "namespaceSelector",
    "preference",
];

/// Lists that Kubernetes replaces as one value, in the types that movers' pods take over from it.
const ATOMIC_LISTS: [&str; 11] = [
    "items",
    "matchExpressions",
    "matchFields",
    "matchLabelKeys",
    "mismatchLabelKeys",
    "namespaces",
    "nodeSelectorTerms",
    "preferredDuringSchedulingIgnoredDuringExecution",
    "supplementalGroups",
    "sysctls",
    "values",
];

/// Gives a type without fields the schema of a plain string.
macro_rules! plain_string {
    ($name:ident) => {
        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string" })
            }
        }
    };
}

pub(crate) use plain_string;

/// The schema of a whole object of one kind.
pub(crate) fn root<Spec: JsonSchema, Status: JsonSchema>(kind: &str) -> JSONSchemaProps {
    let schema = json!({
        "type": "object",
        "description": format!("{kind}: the wanted and the observed state of one direction of a replication."),
        "properties": {
            "apiVersion": { "type": "string", "description": "Version of the schema that this object is written in." },
            "kind": { "type": "string", "description": "What this object is." },
            "metadata": { "type": "object" },
            "spec": described::<Spec>(),
            "status": described::<Status>(),
        },
    });
    // Only types of this crate come here, and the test that walks every field would find what does not fit; an
    // object schema without fields is the honest rest.
    serde_json::from_value(schema).unwrap_or_else(|_| JSONSchemaProps {
        type_: Some("object".to_owned()),
        ..JSONSchemaProps::default()
    })
}

/// The schema of `status.conditions`, as Kubernetes defines it.
pub(crate) fn conditions(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({
        "type": "array",
        "items": {
            "type": "object",
            "description": "One aspect of the state of this object.",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "lastTransitionTime": {
                    "type": "string",
                    "format": "date-time",
                    "description": "When `status` last changed.",
                },
                "message": { "type": "string", "maxLength": 32768, "description": "The state in words." },
                "observedGeneration": {
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0,
                    "description": "The `metadata.generation` that this condition speaks of.",
                },
                "reason": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 1024,
                    "pattern": CONDITION_REASON_PATTERN,
                    "description": "The state in one word, for programs.",
                },
                "status": {
                    "type": "string",
                    "enum": ["True", "False", "Unknown"],
                    "description": "Whether the condition holds.",
                },
                "type": {
                    "type": "string",
                    "maxLength": 316,
                    "pattern": CONDITION_TYPE_PATTERN,
                    "description": "Which aspect this is.",
                },
            },
        },
    })
}

fn described<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
        settings.transforms = Vec::new();
    });
    let mut schema = settings
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value();
    rewrite(&mut schema, "");
    schema
}

/// Rewrites one schema and all below it. `name` is the field it describes, empty for the root and for list items.
fn rewrite(schema: &mut Value, name: &str) {
    let Value::Object(fields) = schema else {
        return;
    };
    take_off_null(fields);
    for meaningless in ["$schema", "title", "default"] {
        fields.remove(meaningless);
    }
    if let Some(Value::String(description)) = fields.get_mut("description") {
        *description = short(description).into_owned();
    }
    if fields.contains_key("x-kubernetes-int-or-string") {
        fields.insert(
            "anyOf".to_owned(),
            json!([{ "type": "integer" }, { "type": "string" }]),
        );
        fields.insert("pattern".to_owned(), QUANTITY_PATTERN.into());
        return;
    }
    add_merge_keys(fields, name);
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        for (name, property) in properties {
            rewrite(property, name);
        }
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(schema) = fields.get_mut(inner) {
            rewrite(schema, "");
        }
    }
    if name == "nodeSelectorTerms"
        && let Some(Value::Object(item)) = fields.get_mut("items")
    {
        item.insert("x-kubernetes-map-type".to_owned(), "atomic".into());
    }
}

/// Undoes "this or null": an optional field is one that may be absent.
fn take_off_null(fields: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = fields.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            fields.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(values)) = fields.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    let Some(Value::Array(branches)) = fields.get_mut("anyOf") else {
        return;
    };
    branches.retain(|branch| branch.get("type").is_none_or(|kind| kind != "null"));
    if branches.len() != 1 {
        return;
    }
    let Some(Value::Object(only)) = branches.pop() else {
        return;
    };
    fields.remove("anyOf");
    for (key, value) in only {
        fields.entry(key).or_insert(value);
    }
}

fn add_merge_keys(fields: &mut Map<String, Value>, name: &str) {
    let is = |kind: &str| fields.get("type").is_some_and(|found| found == kind);
    let required_terms = name == "requiredDuringSchedulingIgnoredDuringExecution";
    if is("array") && name == "claims" {
        fields.insert("x-kubernetes-list-type".to_owned(), "map".into());
        fields.insert("x-kubernetes-list-map-keys".to_owned(), json!(["name"]));
    } else if is("array") && (required_terms || ATOMIC_LISTS.contains(&name)) {
        fields.insert("x-kubernetes-list-type".to_owned(), "atomic".into());
    } else if is("object") && (required_terms || ATOMIC_OBJECTS.contains(&name)) {
        fields.insert("x-kubernetes-map-type".to_owned(), "atomic".into());
    }
}

/// The first paragraph of a description on one line, or its first sentence when the paragraph is long.
fn short(description: &str) -> Cow<'_, str> {
    let paragraph = description.split("\n\n").next().unwrap_or_default().trim();
    let sentence = match paragraph.split_once(". ") {
        Some((first, _)) if paragraph.len() > LONGEST_DESCRIPTION => {
            Cow::Owned(format!("{first}."))
        }
        _ => Cow::Borrowed(paragraph),
    };
    if sentence.contains('\n') {
        sentence.replace('\n', " ").into()
    } else {
        sentence
    }
}
