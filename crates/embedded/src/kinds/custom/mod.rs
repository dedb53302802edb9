//! Kinds that custom resource definitions declare.

mod check;
mod definition;
mod shape;

use std::collections::HashMap;

use regex::Regex;
use serde_json::{Map, Value, json};

use super::built_in::{cannot_handle, check_kind, judge};
use super::meta::NameRule;
use super::{DecodeError, Decoded, FieldError, FieldValidation, Merge, Resource, meta, typed};
use crate::{openapi, tables, wire};

pub(crate) use self::definition::faults as definition_faults;

const VERBS: &[&str] = &[
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "create",
    "update",
    "watch",
];
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// One version of a custom kind.
#[derive(Debug)]
pub(crate) struct Custom {
    group: String,
    version: String,
    kind: String,
    list_kind: String,
    plural: String,
    singular: String,
    short_names: Vec<String>,
    categories: Vec<String>,
    namespaced: bool,
    has_status: bool,
    /// `openAPIV3Schema`.
    schema: Value,
    printer_columns: Vec<Value>,
    selectable: Vec<String>,
    patterns: HashMap<String, Regex>,
    has_rules: bool,
}

impl Custom {
    /// Every served version of a definition.
    pub(crate) fn all_of(crd: &Value) -> Vec<Self> {
        let versions = crd.pointer("/spec/versions").and_then(Value::as_array);
        versions
            .into_iter()
            .flatten()
            .filter(|version| version.get("served") == Some(&Value::Bool(true)))
            .map(|version| Self::of(crd, version))
            .collect()
    }

    fn of(crd: &Value, version: &Value) -> Self {
        let text = |pointer: &str| {
            crd.pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let texts = |value: Option<&Value>| -> Vec<String> {
            value
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect()
        };
        let schema = version
            .pointer("/schema/openAPIV3Schema")
            .cloned()
            .unwrap_or_else(|| json!({}));
        let kind = text("/spec/names/kind");
        let singular = text("/spec/names/singular");
        let list_kind = text("/spec/names/listKind");
        let selectable = version.get("selectableFields").and_then(Value::as_array);
        let mut patterns = HashMap::new();
        shape::collect_patterns(&schema, &mut patterns);
        Self {
            group: text("/spec/group"),
            version: version
                .get("name")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            list_kind: if list_kind.is_empty() {
                format!("{kind}List")
            } else {
                list_kind
            },
            singular: if singular.is_empty() {
                kind.to_lowercase()
            } else {
                singular
            },
            kind,
            plural: text("/spec/names/plural"),
            short_names: texts(crd.pointer("/spec/names/shortNames")),
            categories: texts(crd.pointer("/spec/names/categories")),
            namespaced: crd.pointer("/spec/scope") == Some(&json!("Namespaced")),
            has_status: version.pointer("/subresources/status").is_some(),
            has_rules: shape::has_rules(&schema),
            schema,
            printer_columns: version
                .get("additionalPrinterColumns")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default(),
            selectable: selectable
                .into_iter()
                .flatten()
                .filter_map(|field| field.get("jsonPath")?.as_str())
                .map(|path| path.trim_start_matches('.').to_owned())
                .collect(),
            patterns,
        }
    }

    fn api_version(&self) -> String {
        format!("{}/{}", self.group, self.version)
    }

    fn read(
        &self,
        mut value: Value,
        duplicates: Vec<String>,
        validation: FieldValidation,
    ) -> Result<Decoded, DecodeError> {
        check_kind(&value, &self.api_version(), &self.kind)?;
        let mut findings = typed::Findings::default();
        let meta = typed::read(
            OBJECT_META,
            value.get("metadata").unwrap_or(&Value::Null),
            false,
            &mut findings,
        )
        .map_err(|fault| cannot_handle(&self.kind, &self.version, &fault))?;
        let mut unknown: Vec<String> = findings
            .unknown
            .into_iter()
            .map(|path| format!("metadata.{path}"))
            .collect();
        let Some(object) = value.as_object_mut() else {
            let fault = format!(
                "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
                check::type_name(&value)
            );
            return Err(cannot_handle(&self.kind, &self.version, &fault));
        };
        object.insert("metadata".to_owned(), meta);
        object.insert("apiVersion".to_owned(), json!(self.api_version()));
        object.insert("kind".to_owned(), json!(self.kind));
        shape::prune(&mut value, &self.schema, true, "", &mut unknown);
        let warnings = judge(&self.kind, &self.version, duplicates, unknown, validation)?;
        Ok(Decoded {
            object: value,
            warnings,
        })
    }

    /// The schema node at a path of an object.
    fn node(&self, path: &[&str]) -> Option<&Value> {
        let mut node = &self.schema;
        for element in path {
            node = if *element == "*" {
                node.get("items")
                    .or_else(|| node.get("additionalProperties"))?
            } else {
                node.pointer("/properties")
                    .and_then(|properties| properties.get(*element))
                    .or_else(|| {
                        node.get("additionalProperties")
                            .filter(|inner| inner.is_object())
                    })?
            };
        }
        Some(node)
    }
}

impl Resource for Custom {
    fn group(&self) -> &str {
        &self.group
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn kind(&self) -> &str {
        &self.kind
    }

    fn plural(&self) -> &str {
        &self.plural
    }

    fn singular(&self) -> &str {
        &self.singular
    }

    fn namespaced(&self) -> bool {
        self.namespaced
    }

    fn has_status(&self) -> bool {
        self.has_status
    }

    fn verbs(&self) -> &[&'static str] {
        VERBS
    }

    fn strategic(&self) -> bool {
        false
    }

    fn counts_generations(&self) -> bool {
        true
    }

    fn short_names(&self) -> Vec<String> {
        self.short_names.clone()
    }

    fn categories(&self) -> Vec<String> {
        self.categories.clone()
    }

    fn list_kind(&self) -> String {
        self.list_kind.clone()
    }

    fn selectable_fields(&self) -> Vec<String> {
        self.selectable.clone()
    }

    fn columns(&self) -> Vec<tables::Column> {
        tables::custom(&self.printer_columns)
    }

    fn openapi(&self) -> (String, Map<String, Value>) {
        openapi::custom(&self.group, &self.version, &self.kind, &self.schema)
    }

    fn decode(
        &self,
        content_type: &str,
        body: &[u8],
        validation: FieldValidation,
    ) -> Result<Decoded, DecodeError> {
        if wire::Format::of(content_type) == Some(wire::Format::Protobuf) {
            return Err(DecodeError {
                code: 415,
                reason: "UnsupportedMediaType",
                message: "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml".to_owned(),
            });
        }
        let body = wire::read(content_type, body, &self.kind)?;
        self.read(body.value, body.duplicates, validation)
    }

    fn check(&self, object: Value, validation: FieldValidation) -> Result<Decoded, DecodeError> {
        self.read(object, Vec::new(), validation)
    }

    fn default(&self, object: &mut Value, _old: Option<&Value>) {
        shape::fill(object, &self.schema);
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let mut faults = meta::validate(object, NameRule::Subdomain);
        faults.extend(check::validate(
            object,
            &self.schema,
            &self.patterns,
            self.has_rules,
        ));
        faults
    }

    fn validate_update(&self, new: &Value, old: &Value, _status: bool) -> Vec<FieldError> {
        let mut faults = meta::validate_update(new, old);
        faults.extend(check::validate(
            new,
            &self.schema,
            &self.patterns,
            self.has_rules,
        ));
        faults
    }

    fn merge_at(&self, path: &[&str]) -> Merge {
        if path.first() == Some(&"metadata") {
            return metadata_merge(path);
        }
        let Some(node) = self.node(path) else {
            return Merge::Granular;
        };
        let text = |key: &str| node.get(key).and_then(Value::as_str);
        match (
            text("type"),
            text("x-kubernetes-list-type"),
            text("x-kubernetes-map-type"),
        ) {
            (Some("array"), Some("set"), _) => Merge::Set,
            (Some("array"), Some("map"), _) => {
                let keys = node
                    .get("x-kubernetes-list-map-keys")
                    .and_then(Value::as_array);
                let default = |key: &str| {
                    node.pointer(&format!("/items/properties/{key}/default"))
                        .cloned()
                };
                let keys = keys.into_iter().flatten().filter_map(Value::as_str);
                Merge::ByKey(keys.map(|key| (key.to_owned(), default(key))).collect())
            }
            (Some("array"), _, _) | (_, _, Some("atomic")) => Merge::Atomic,
            _ => Merge::Granular,
        }
    }
}

fn metadata_merge(path: &[&str]) -> Merge {
    match path {
        ["metadata", "finalizers"] => Merge::Set,
        ["metadata", "ownerReferences"] => Merge::ByKey(vec![("uid".to_owned(), None)]),
        ["metadata", "ownerReferences", "*"] | ["metadata", "managedFields"] => Merge::Atomic,
        _ => Merge::Granular,
    }
}
