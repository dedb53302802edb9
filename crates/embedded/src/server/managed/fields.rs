//! Sets of fields, as `fieldsV1` writes them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A set of field paths as a tree. Keys are `fieldsV1`'s own: `f:name`, `k:{…}`, `v:…`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSet {
    /// Whether the path that ends here is in the set.
    pub(crate) member: bool,
    pub(crate) children: BTreeMap<String, Self>,
}

impl FieldSet {
    pub(crate) fn is_empty(&self) -> bool {
        !self.member && self.children.values().all(Self::is_empty)
    }

    /// The node of a path, made when absent.
    pub(crate) fn node(&mut self, path: &[String]) -> &mut Self {
        path.iter().fold(self, |node, element| {
            node.children.entry(element.clone()).or_default()
        })
    }

    pub(crate) fn insert(&mut self, path: &[String]) {
        self.node(path).member = true;
    }

    /// Removes a path and all below it.
    pub(crate) fn cut(&mut self, path: &[&str]) {
        match path {
            [] => {}
            [last] => {
                self.children.remove(*last);
            }
            [first, rest @ ..] => {
                if let Some(child) = self.children.get_mut(*first) {
                    child.cut(rest);
                    if child.is_empty() {
                        self.children.remove(*first);
                    }
                }
            }
        }
    }

    pub(crate) fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        all.member |= other.member;
        for (element, child) in &other.children {
            let joined = all
                .children
                .get(element)
                .map_or_else(|| child.clone(), |own| own.union(child));
            all.children.insert(element.clone(), joined);
        }
        all
    }

    pub(crate) fn difference(&self, other: &Self) -> Self {
        self.combine(other, |own, others| own && !others)
    }

    pub(crate) fn intersection(&self, other: &Self) -> Self {
        self.combine(other, |own, others| own && others)
    }

    fn combine(&self, other: &Self, keep: fn(bool, bool) -> bool) -> Self {
        let nothing = Self::default();
        let children = self.children.iter().map(|(element, child)| {
            (
                element.clone(),
                child.combine(other.children.get(element).unwrap_or(&nothing), keep),
            )
        });
        let children = children.filter(|(_, child)| !child.is_empty()).collect();
        Self {
            member: keep(self.member, other.member),
            children,
        }
    }

    /// Every member's path.
    pub(crate) fn paths(&self) -> Vec<Vec<String>> {
        let mut found = Vec::new();
        self.collect(&mut Vec::new(), &mut found);
        found
    }

    fn collect(&self, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
        if self.member {
            found.push(path.clone());
        }
        for (element, child) in &self.children {
            path.push(element.clone());
            child.collect(path, found);
            path.pop();
        }
    }

    /// `fieldsV1`.
    pub(crate) fn to_json(&self) -> Value {
        let mut fields = Map::new();
        if self.member && !self.children.is_empty() {
            fields.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (element, child) in &self.children {
            fields.insert(element.clone(), child.to_json());
        }
        Value::Object(fields)
    }

    /// Reads `fieldsV1`; an empty object below the root is a member without children.
    pub(crate) fn from_json(value: &Value) -> Self {
        let mut set = Self::default();
        for (element, child) in value.as_object().into_iter().flatten() {
            if element == "." {
                set.member = true;
                continue;
            }
            let mut child = Self::from_json(child);
            child.member |= child.children.is_empty();
            set.children.insert(element.clone(), child);
        }
        set
    }
}

/// A path in the words of conflict messages: `.spec.ports[port=22,protocol="TCP"].name`.
pub(crate) fn describe(path: &[String]) -> String {
    path.iter()
        .map(|element| describe_element(element))
        .collect()
}

fn describe_element(element: &str) -> String {
    match element.split_once(':') {
        Some(("f", name)) => format!(".{name}"),
        Some(("k", keys)) => {
            let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let keys: Vec<String> = keys
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            format!("[{}]", keys.join(","))
        }
        Some(("v", value)) => format!("[={value}]"),
        Some((_, index)) => format!("[{index}]"),
        None => element.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn sets() -> impl Strategy<Value = FieldSet> {
        let paths = prop::collection::vec(prop::collection::vec("f:[a-c]", 1..4), 0..8);
        paths.prop_map(|paths| {
            let mut set = FieldSet::default();
            for path in &paths {
                set.insert(path);
            }
            set
        })
    }

    proptest! {
        #[test]
        fn a_set_survives_being_written_and_read(set in sets()) {
            prop_assert_eq!(FieldSet::from_json(&set.to_json()), set);
        }

        #[test]
        fn difference_and_intersection_part_a_set(a in sets(), b in sets()) {
            prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
            prop_assert!(a.difference(&b).intersection(&b).is_empty());
            prop_assert_eq!(a.union(&b).difference(&a), b.difference(&a));
        }
    }

    #[test]
    fn a_path_is_described_as_conflicts_name_it() {
        let path = [
            "f:spec",
            "f:ports",
            "k:{\"port\":22,\"protocol\":\"TCP\"}",
            "f:name",
        ]
        .map(str::to_owned);
        assert_eq!(
            describe(&path),
            ".spec.ports[port=22,protocol=\"TCP\"].name"
        );
        let set = FieldSet::from_json(&json!({"f:data": {".": {}, "f:a": {}}}));
        assert_eq!(set.paths().len(), 2);
    }
}
