//! Examples of the two kinds in the pages, held against the definitions, field by field.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::Page;

/// The page that tells of every field.
const FIELDS: &str = "docs/fields.md";
/// The page that tells of every field what VolSync makes of it.
const COMPATIBILITY: &str = "docs/compatibility.md";
/// Sections whose fields that page tells of as one.
const AS_ONE: [&str; 4] = ["rclone", "restic", "rsyncTLS", "syncthing"];
/// Types of Kubernetes' own, whose insides are documented there.
const KUBERNETES_OWN: [&str; 4] = [
    "moverAffinity",
    "moverResources",
    "moverSecurityContext",
    "volumeSource",
];

/// A kind and its schema.
struct Kind {
    name: String,
    schema: Value,
}

/// What is wrong with the examples, and which fields have none.
pub(super) fn check(pages: &[Page]) -> Result<Vec<String>> {
    let kinds = kinds()?;
    let mut wrong = Vec::new();
    for page in pages {
        let (examples, unread) = examples(page);
        wrong.extend(unread);
        let faults = examples
            .iter()
            .flat_map(|example| complaints(&kinds, page, example));
        wrong.extend(faults);
        if page.path == Path::new(FIELDS) {
            let missing = kinds.iter().flat_map(|kind| lacking(kind, page, &examples));
            wrong.extend(missing);
        }
        if page.path == Path::new(COMPATIBILITY) {
            wrong.extend(kinds.iter().flat_map(|kind| uncompared(kind, page)));
        }
    }
    Ok(wrong)
}

/// The examples of a page, and what is no YAML.
fn examples(page: &Page) -> (Vec<Value>, Vec<String>) {
    let (mut examples, mut unread) = (Vec::new(), Vec::new());
    for text in blocks(&page.text) {
        match serde_saphyr::from_str(&text) {
            Ok(example) => examples.push(example),
            Err(error) => unread.push(format!("{}: not YAML: {error}", page.path.display())),
        }
    }
    (examples, unread)
}

/// The fields of a kind that the page of fields has no example of, or does not name.
fn lacking(kind: &Kind, page: &Page, examples: &[Value]) -> Vec<String> {
    let mut shown = BTreeSet::new();
    for example in examples.iter().filter(|example| of_kind(example, kind)) {
        mark(example, "", &mut shown);
    }
    let words = words(&page.text);
    let told = |field: &str| {
        field
            .rsplit('.')
            .next()
            .is_some_and(|name| words.contains(name))
    };
    let (spec, status) = (fields(&kind.schema, "spec"), fields(&kind.schema, "status"));
    let unshown = spec
        .iter()
        .filter(|field| !shown.contains(*field))
        .map(|field| format!("{FIELDS}: no example of {}.{field}", kind.name));
    let untold = spec
        .iter()
        .chain(&status)
        .filter(|field| !told(field))
        .map(|field| format!("{FIELDS}: {}.{field} is not told of", kind.name));
    unshown.chain(untold).collect()
}

/// The fields of a kind that the page of compatibility does not name.
fn uncompared(kind: &Kind, page: &Page) -> Vec<String> {
    let words = words(&page.text);
    let fields = [fields(&kind.schema, "spec"), fields(&kind.schema, "status")].concat();
    let own = |field: &String| {
        let mut parts = field.split('.').skip(1);
        // What a condition is made of is Kubernetes' own.
        !parts.clone().any(|part| part == "conditions") && !parts.any(|part| AS_ONE.contains(&part))
    };
    fields
        .iter()
        .filter(|field| own(field))
        .filter(|field| {
            field
                .rsplit('.')
                .next()
                .is_some_and(|name| !words.contains(name))
        })
        .map(|field| format!("{COMPATIBILITY}: {}.{field} is not told of", kind.name))
        .collect()
}

fn kinds() -> Result<Vec<Kind>> {
    let kind = |definition| {
        let definition = serde_json::to_value(definition)?;
        let text = |path| definition.pointer(path).and_then(Value::as_str);
        Ok(Kind {
            name: text("/spec/names/kind")
                .context("a definition without a kind")?
                .to_owned(),
            schema: definition
                .pointer("/spec/versions/0/schema/openAPIV3Schema")
                .context("a definition without a schema")?
                .clone(),
        })
    };
    syncline_api::crds().into_iter().map(kind).collect()
}

/// The YAML documents of a page: blocks that say they are, and what a shell command is given.
fn blocks(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut block: Option<(usize, &str, String)> = None;
    for line in text.lines() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        match block.take() {
            Some((_, end, done)) if trimmed == end => blocks.push(done),
            Some((outer, end, mut so_far)) => {
                so_far.push_str(line.get(outer..).unwrap_or_default());
                so_far.push('\n');
                block = Some((outer, end, so_far));
            }
            None if trimmed == "```yaml" => block = Some((indent, "```", String::new())),
            None if trimmed.ends_with("<<'END'") => block = Some((indent, "END", String::new())),
            None => {}
        }
    }
    blocks
        .iter()
        .flat_map(|block| block.split("---\n").map(str::to_owned))
        .collect()
}

/// Whether an example is of this kind: it says so, or is a part of a resource that this kind would take.
fn of_kind(example: &Value, kind: &Kind) -> bool {
    match example.get("kind") {
        Some(named) => named == kind.name.as_str(),
        None => is_part(example) && strict(&kind.schema, example, "").is_empty(),
    }
}

fn is_part(example: &Value) -> bool {
    example.get("apiVersion").is_none()
        && (example.get("spec").is_some() || example.get("status").is_some())
}

fn complaints(kinds: &[Kind], page: &Page, example: &Value) -> Vec<String> {
    let at = page.path.display();
    if let Some(kind) = kinds.iter().find(|kind| {
        example
            .get("kind")
            .is_some_and(|named| named == kind.name.as_str())
    }) {
        let name = &kind.name;
        let faults = strict(&kind.schema, example, "");
        return faults
            .into_iter()
            .map(|fault| format!("{at}: an example of {name}: {fault}"))
            .collect();
    }
    let fits = !is_part(example) || kinds.iter().any(|kind| of_kind(example, kind));
    let fault = format!("{at}: neither kind takes the part {example}");
    (!fits).then_some(fault).into_iter().collect()
}

/// What a strict API server would say: unknown fields, other types, values out of the enumeration, what is lacking.
fn strict(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    if let Some(values) = schema.get("enum").and_then(Value::as_array)
        && !values.contains(value)
    {
        return vec![format!("{path}: {value} is none of the values")];
    }
    match value {
        Value::Object(fields) => {
            let known = schema.get("properties");
            let any = schema.get("additionalProperties");
            // Metadata has no properties in a definition: the API server knows them.
            if known.is_none() && any.is_none() {
                return Vec::new();
            }
            let inside = fields.iter().flat_map(|(name, value)| {
                let path = join(path, name);
                match known.and_then(|known| known.get(name)).or(any) {
                    Some(schema) => strict(schema, value, &path),
                    None => vec![format!("{path} is unknown")],
                }
            });
            let required = schema.get("required").and_then(Value::as_array);
            let lacking = required
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .filter(|name| !fields.contains_key(*name))
                .map(|name| format!("{} is lacking", join(path, name)));
            inside.chain(lacking).collect()
        }
        Value::Array(values) => {
            let items = schema.get("items").unwrap_or(&Value::Null);
            values
                .iter()
                .flat_map(|value| strict(items, value, path))
                .collect()
        }
        simple => {
            let fits = match schema.get("type").and_then(Value::as_str) {
                Some("string") => simple.is_string(),
                Some("integer") => simple.is_i64() || simple.is_u64(),
                Some("boolean") => simple.is_boolean(),
                Some("object" | "array") => false,
                _ => true,
            };
            let fault = format!("{path}: {simple} is of another type");
            (!fits).then_some(fault).into_iter().collect()
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// Every field below `part` of a schema, such as `spec.rsync.address`.
fn fields(schema: &Value, part: &str) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(part_of) = schema.pointer(&format!("/properties/{part}")) {
        below(part_of, part, &mut all);
    }
    all
}

fn below(schema: &Value, path: &str, all: &mut Vec<String>) {
    let schema = schema.get("items").unwrap_or(schema);
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, schema) in properties.into_iter().flatten() {
        let path = join(path, name);
        all.push(path.clone());
        if !KUBERNETES_OWN.contains(&name.as_str()) {
            below(schema, &path, all);
        }
    }
}

/// Marks every field that an example has.
fn mark(value: &Value, path: &str, shown: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = join(path, name);
                mark(value, &path, shown);
                shown.insert(path);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| mark(value, path, shown)),
        _ => {}
    }
}

/// The words that a page's text sets as code, its blocks apart.
fn words(text: &str) -> BTreeSet<String> {
    let outside = text.split("```").step_by(2);
    outside
        .flat_map(|text| text.split('`').skip(1).step_by(2))
        .flat_map(|code| code.split(|letter: char| !letter.is_alphanumeric()))
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        let page = Page {
            path: "docs/a.md".into(),
            text: format!("```yaml\n{text}\n```\n"),
        };
        let blocks = blocks(&page.text);
        let example = serde_saphyr::from_str(&blocks[0]).expect("YAML");
        complaints(&kinds().expect("kinds"), &page, &example)
    }

    #[test]
    fn a_misspelt_field_of_an_example_is_told() {
        assert_eq!(
            faults("kind: ReplicationSource\nspec: {sourcePvc: data}"),
            ["docs/a.md: an example of ReplicationSource: spec.sourcePvc is unknown"]
        );
    }

    #[test]
    fn a_value_that_the_definition_refuses_is_told() {
        let wrong = "kind: ReplicationDestination\nspec: {rsync: {copyMethod: Copy, port: \"22\"}}";
        assert_eq!(
            faults(wrong),
            [
                "docs/a.md: an example of ReplicationDestination: spec.rsync.copyMethod: \"Copy\" is none of the values",
                "docs/a.md: an example of ReplicationDestination: spec.rsync.port: \"22\" is of another type"
            ]
        );
    }

    #[test]
    fn a_part_of_a_resource_may_be_of_either_kind() {
        assert!(faults("spec: {rsync: {volumeMode: Block}}").is_empty());
        assert_eq!(faults("spec: {rsync: {volume: Block}}").len(), 1);
    }

    #[test]
    fn what_a_command_is_given_is_an_example_too() {
        let text = "    syncline apply -f - <<'END'\n    kind: ReplicationSource\n    spec:\n      paused: true\n    END\n";
        assert_eq!(
            blocks(text),
            ["kind: ReplicationSource\nspec:\n  paused: true\n"]
        );
    }
}
