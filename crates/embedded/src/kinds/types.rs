//! The table of the built-in kinds' fields: names, types, protobuf numbers and how they merge.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::Value;

/// The JSON form of one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    String,
    Bool,
    Int32,
    Int64,
    Float,
    /// Base64 in JSON.
    Bytes,
    /// RFC 3339 with whole seconds.
    Time,
    /// RFC 3339 with microseconds.
    MicroTime,
    Duration,
    Quantity,
    IntOrString,
    /// Any JSON.
    Raw,
    /// A set of fields as `managedFields` holds it.
    FieldsV1,
    /// `items` of a JSON schema: a schema or a list of them.
    SchemaOrArray,
    /// `additionalProperties` of a JSON schema: a schema or a boolean.
    SchemaOrBool,
    /// `dependencies` of a JSON schema: a schema or a list of strings.
    SchemaOrStrings,
    List(Box<Self>),
    Map(Box<Self>),
    /// The struct of this full name.
    Struct(String),
}

/// How a field merges, as its Go markers say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Topology {
    /// Nothing said.
    Default,
    Atomic,
    Granular,
    Set,
    ByKeys(Vec<String>),
}

/// One field of a struct.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a marker of the table's row, and they combine freely"
)]
pub(crate) struct Field {
    /// Name in JSON; for an inlined struct, its Go name.
    pub name: String,
    /// Number in protobuf; 0 when it has none.
    pub number: u32,
    pub kind: Type,
    /// As Go's decoder names the type, for instance `map[string]string`.
    pub go_type: String,
    /// Absent and zero are told apart.
    pub pointer: bool,
    /// The fields of this struct stand in the outer one in JSON.
    pub inline: bool,
    /// Left out of answers when empty (structs never are).
    pub omit_empty: bool,
    /// Left out of answers when empty, structs too.
    pub omit_zero: bool,
    pub topology: Topology,
    /// `patchMergeKey`.
    pub patch_key: Option<String>,
    /// `patchStrategy` names merge.
    pub patch_merges: bool,
    /// `patchStrategy` as published, for instance `merge,retainKeys`.
    pub patch_strategy: Option<String>,
    pub default: Option<Value>,
}

/// One struct: a kind or a part of one.
#[derive(Clone, Debug)]
pub(crate) struct Struct {
    /// For instance `io.k8s.api.core.v1.Pod`.
    pub name: String,
    /// Merged as a whole.
    pub atomic: bool,
    pub fields: Vec<Field>,
}

impl Struct {
    /// `Pod` of `io.k8s.api.core.v1.Pod`.
    pub(crate) fn short_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or_default()
    }

    /// The field of this JSON name, looking into inlined structs.
    pub(crate) fn field(&self, name: &str) -> Option<&Field> {
        self.fields
            .iter()
            .find_map(|field| match (&field.kind, field.inline) {
                (Type::Struct(inner), true) => find(inner)?.field(name),
                _ if field.name == name => Some(field),
                _ => None,
            })
    }
}

static TABLE: LazyLock<HashMap<String, Struct>> =
    LazyLock::new(|| parse(include_str!("types.txt")));

/// The struct of this full name.
pub(crate) fn find(name: &str) -> Option<&'static Struct> {
    TABLE.get(name)
}

fn parse(text: &str) -> HashMap<String, Struct> {
    let mut table = HashMap::new();
    let mut current: Option<Struct> = None;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some(field) = line.strip_prefix('\t') {
            if let (Some(open), Some(field)) = (current.as_mut(), parse_field(field)) {
                open.fields.push(field);
            }
            continue;
        }
        let (name, atomic) = line
            .strip_suffix(" atomic")
            .map_or((line, false), |name| (name, true));
        let next = Struct {
            name: name.to_owned(),
            atomic,
            fields: Vec::new(),
        };
        if let Some(done) = current.replace(next) {
            table.insert(done.name.clone(), done);
        }
    }
    if let Some(done) = current {
        table.insert(done.name.clone(), done);
    }
    table
}

fn parse_field(line: &str) -> Option<Field> {
    let mut columns = line.split('\t');
    let name = columns.next()?.to_owned();
    let number = columns.next()?.parse().ok()?;
    let (kind, go_type, pointer) = parse_type(columns.next()?);
    let mut field = Field {
        name,
        number,
        kind,
        go_type,
        pointer,
        inline: false,
        omit_empty: false,
        omit_zero: false,
        topology: Topology::Default,
        patch_key: None,
        patch_merges: false,
        patch_strategy: None,
        default: None,
    };
    for flag in columns.next().unwrap_or_default().split(' ') {
        match flag.split_once('=').unwrap_or((flag, "")) {
            ("inline", _) => field.inline = true,
            ("omitempty", _) => field.omit_empty = true,
            ("omitzero", _) => field.omit_zero = true,
            ("atomic", _) => field.topology = Topology::Atomic,
            ("granular", _) => field.topology = Topology::Granular,
            ("set", _) => field.topology = Topology::Set,
            ("keys", keys) => {
                field.topology = Topology::ByKeys(keys.split('+').map(str::to_owned).collect());
            }
            ("patchkey", key) => field.patch_key = Some(key.to_owned()),
            ("patch", strategy) => {
                field.patch_merges = strategy.split('+').any(|word| word == "merge");
                field.patch_strategy = Some(strategy.replace('+', ","));
            }
            ("default", value) => field.default = serde_json::from_str(value).ok(),
            _ => {}
        }
    }
    Some(field)
}

/// The type, its Go name, and whether it was a pointer.
fn parse_type(text: &str) -> (Type, String, bool) {
    if let Some(inner) = text.strip_prefix('*') {
        let (kind, go, _) = parse_type(inner);
        return (kind, go, true);
    }
    if let Some(inner) = text.strip_prefix("[]") {
        let (kind, go, _) = parse_type(inner);
        return (Type::List(Box::new(kind)), format!("[]{go}"), false);
    }
    if let Some(inner) = text.strip_prefix("map:") {
        let (kind, go, _) = parse_type(inner);
        return (Type::Map(Box::new(kind)), format!("map[string]{go}"), false);
    }
    let (base, alias) = text.split_once(':').unwrap_or((text, text));
    let kind = match base {
        "string" => Type::String,
        "bool" => Type::Bool,
        "int32" => Type::Int32,
        "int64" => Type::Int64,
        "float64" => Type::Float,
        "bytes" => Type::Bytes,
        "time" => Type::Time,
        "microtime" => Type::MicroTime,
        "duration" => Type::Duration,
        "quantity" => Type::Quantity,
        "intorstring" => Type::IntOrString,
        "raw" => Type::Raw,
        "fieldsv1" => Type::FieldsV1,
        "schemaorarray" => Type::SchemaOrArray,
        "schemaorbool" => Type::SchemaOrBool,
        "schemaorstrings" => Type::SchemaOrStrings,
        name => {
            let short = name.rsplit('.').next().unwrap_or_default();
            return (Type::Struct(name.to_owned()), format!("v1.{short}"), false);
        }
    };
    let go = match base {
        "bytes" => "[]uint8",
        "time" => "v1.Time",
        "microtime" => "v1.MicroTime",
        _ => alias,
    };
    (kind, go.to_owned(), false)
}
