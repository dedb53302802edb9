//! How the parts of built-in kinds merge, by the table of types.

use serde_json::Value;

use crate::kinds::Merge;
use crate::kinds::types::{self, Struct, Topology, Type};

/// What the table says of the value at a path.
pub(super) struct At<'a> {
    kind: &'a Type,
    topology: &'a Topology,
    patch_key: Option<&'a str>,
    patch_merges: bool,
}

impl At<'_> {
    pub(super) fn merge(&self, patch: bool) -> Merge {
        match self.kind {
            Type::List(inner) if patch => match (self.patch_merges, self.patch_key, inner.as_ref())
            {
                (true, Some(key), _) => Merge::ByKey(vec![(key.to_owned(), None)]),
                (true, None, _) => Merge::Set,
                _ => Merge::Atomic,
            },
            Type::List(inner) => match self.topology {
                Topology::Set => Merge::Set,
                Topology::ByKeys(keys) => Merge::ByKey(
                    keys.iter()
                        .map(|key| (key.clone(), key_default(inner, key)))
                        .collect(),
                ),
                _ => Merge::Atomic,
            },
            // Patches go into structs that server-side apply replaces as a whole.
            Type::Struct(name) if !patch => match (self.topology, types::find(name)) {
                (Topology::Atomic, _) => Merge::Atomic,
                (_, Some(shape)) if shape.atomic => Merge::Atomic,
                _ => Merge::Granular,
            },
            Type::Map(_) if !patch && *self.topology == Topology::Atomic => Merge::Atomic,
            Type::FieldsV1 | Type::IntOrString | Type::Quantity => Merge::Atomic,
            _ => Merge::Granular,
        }
    }
}

fn key_default(item: &Type, key: &str) -> Option<Value> {
    let Type::Struct(name) = item else {
        return None;
    };
    types::find(name)?.field(key)?.default.clone()
}

/// Walks the table; `None` where it knows nothing.
pub(super) fn at<'a>(struct_name: &str, path: &[&str]) -> Option<At<'a>> {
    let mut shape: Option<&'static Struct> = Some(types::find(struct_name)?);
    let mut found: Option<At<'a>> = None;
    for element in path {
        let next = match (&found, shape) {
            (_, Some(owner)) => {
                let field = owner.field(element)?;
                At {
                    kind: &field.kind,
                    topology: &field.topology,
                    patch_key: field.patch_key.as_deref(),
                    patch_merges: field.patch_merges,
                }
            }
            (
                Some(At {
                    kind: Type::List(inner) | Type::Map(inner),
                    ..
                }),
                None,
            ) => At {
                kind: inner,
                topology: &Topology::Default,
                patch_key: None,
                patch_merges: false,
            },
            _ => return None,
        };
        shape = match next.kind {
            Type::Struct(name) => types::find(name),
            _ => None,
        };
        found = Some(next);
    }
    found
}
