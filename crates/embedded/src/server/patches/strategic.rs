//! Strategic merge patches: merge patches that know the lists of built-in kinds by their keys.
//! (Directives as apimachinery's `strategicpatch` reads them.)

use serde_json::{Map, Value};

use crate::kinds::{Merge, Resource};
use crate::server::status::Failure;

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const DELETE_VALUES: &str = "$deleteFromPrimitiveList/";

/// The object that a patch makes of the current one.
pub(crate) fn merge(
    resource: &dyn Resource,
    current: &Value,
    patch: &Value,
) -> Result<Value, Failure> {
    let (Value::Object(current), Value::Object(patch)) = (current, patch) else {
        return Err(Failure::bad_request(
            "a strategic merge patch must be an object",
        ));
    };
    Merger { resource }
        .maps(&[], current.clone(), patch)
        .map(Value::Object)
}

/// A map as Go prints it.
fn in_go(fields: &Fields) -> String {
    let shown = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Object(fields) => in_go(fields),
        other => other.to_string(),
    };
    let parts: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{name}:{}", shown(value)))
        .collect();
    format!("map[{}]", parts.join(" "))
}

struct Merger<'a> {
    resource: &'a dyn Resource,
}

type Fields = Map<String, Value>;

impl Merger<'_> {
    fn maps(
        &self,
        place: &[String],
        mut current: Fields,
        patch: &Fields,
    ) -> Result<Fields, Failure> {
        match patch.get(PATCH).and_then(Value::as_str) {
            None | Some("merge") => {}
            Some("replace") => return Ok(without_directives(patch)),
            Some("delete") => return Ok(Fields::new()),
            Some(other) => {
                return Err(Failure::unexplained(format!(
                    "unknown patch type: {other} in map: {}",
                    in_go(patch)
                )));
            }
        }
        if let Some(retained) = patch.get(RETAIN_KEYS).and_then(Value::as_array) {
            current.retain(|name, _| retained.iter().any(|kept| kept.as_str() == Some(name)));
        }
        for (name, values) in patch {
            if let Some(list) = name.strip_prefix(DELETE_VALUES)
                && let (Some(Value::Array(items)), Value::Array(values)) =
                    (current.get_mut(list), values)
            {
                items.retain(|item| !values.contains(item));
            }
        }
        for (name, value) in patch.iter().filter(|(name, _)| !name.starts_with('$')) {
            let below: Vec<String> = place.iter().cloned().chain([name.clone()]).collect();
            match (current.remove(name), value) {
                (_, Value::Null) => {}
                (Some(Value::Object(before)), Value::Object(value)) => {
                    current.insert(
                        name.clone(),
                        Value::Object(self.maps(&below, before, value)?),
                    );
                }
                (Some(Value::Array(before)), Value::Array(value)) => {
                    current.insert(
                        name.clone(),
                        Value::Array(self.lists(&below, before, value)?),
                    );
                }
                (_, Value::Object(value)) => {
                    let made = self.maps(&below, Fields::new(), value)?;
                    current.insert(name.clone(), Value::Object(made));
                }
                (_, Value::Array(value)) => {
                    current.insert(
                        name.clone(),
                        Value::Array(self.lists(&below, Vec::new(), value)?),
                    );
                }
                (_, value) => {
                    current.insert(name.clone(), value.clone());
                }
            }
        }
        for (name, order) in patch {
            if let Some(list) = name.strip_prefix(ORDER)
                && let (Some(Value::Array(items)), Value::Array(order)) =
                    (current.get_mut(list), order)
            {
                let below: Vec<String> = place.iter().cloned().chain([list.to_owned()]).collect();
                sort(items, order, &self.keys(&below));
            }
        }
        Ok(current)
    }

    fn merge_at(&self, place: &[String]) -> Merge {
        let names: Vec<&str> = place.iter().map(String::as_str).collect();
        self.resource.patch_merge_at(&names)
    }

    fn keys(&self, place: &[String]) -> Vec<String> {
        match self.merge_at(place) {
            Merge::ByKey(keys) => keys.into_iter().map(|(key, _)| key).collect(),
            _ => Vec::new(),
        }
    }

    fn lists(
        &self,
        place: &[String],
        mut current: Vec<Value>,
        patch: &[Value],
    ) -> Result<Vec<Value>, Failure> {
        let keys = match self.merge_at(place) {
            Merge::ByKey(keys) => keys.into_iter().map(|(key, _)| key).collect::<Vec<_>>(),
            Merge::Set => {
                // What the patch names comes first.
                current.retain(|value| !patch.contains(value));
                return Ok(patch.iter().cloned().chain(current).collect());
            }
            _ => return Ok(patch.iter().map(clean).collect()),
        };
        let directive = |item: &Value| item.get(PATCH).and_then(Value::as_str).map(str::to_owned);
        if patch
            .iter()
            .any(|item| directive(item).as_deref() == Some("replace"))
        {
            let own = patch
                .iter()
                .filter(|item| directive(item).as_deref() != Some("replace"));
            return Ok(own.map(clean).collect());
        }
        let below: Vec<String> = place.iter().cloned().chain(["*".to_owned()]).collect();
        for item in patch {
            let Value::Object(fields) = item else {
                return Err(Failure::bad_request(format!(
                    "{} must hold objects",
                    place.join(".")
                )));
            };
            if let Some(key) = keys.iter().find(|key| !fields.contains_key(*key)) {
                return Err(Failure::unexplained(format!(
                    "map: {} does not contain declared merge key: {key}",
                    in_go(fields)
                )));
            }
            let found = current
                .iter()
                .position(|other| same_keys(other, item, &keys));
            match (found, directive(item).as_deref()) {
                (_, Some("delete")) => current.retain(|other| !same_keys(other, item, &keys)),
                (Some(index), _) => {
                    let Some(Value::Object(before)) = current.get(index).cloned() else {
                        continue;
                    };
                    let merged = self.maps(&below, before, fields)?;
                    if let Some(slot) = current.get_mut(index) {
                        *slot = Value::Object(merged);
                    }
                }
                (None, _) => {
                    current.push(Value::Object(self.maps(&below, Fields::new(), fields)?));
                }
            }
        }
        Ok(current)
    }
}

fn same_keys(a: &Value, b: &Value, keys: &[String]) -> bool {
    keys.iter().all(|key| a.get(key) == b.get(key))
}

/// Puts listed items in the order given; the others keep their place among them.
fn sort(items: &mut [Value], order: &[Value], keys: &[String]) {
    let matches = |item: &Value, wanted: &Value| {
        if keys.is_empty() {
            item == wanted
        } else {
            same_keys(item, wanted, keys)
        }
    };
    let rank = |item: &Value| order.iter().position(|wanted| matches(item, wanted));
    let mut listed: Vec<Value> = items
        .iter()
        .filter(|item| rank(item).is_some())
        .cloned()
        .collect();
    listed.sort_by_key(|item| rank(item));
    let mut listed = listed.into_iter();
    for item in items.iter_mut() {
        if rank(item).is_some()
            && let Some(next) = listed.next()
        {
            *item = next;
        }
    }
}

fn without_directives(fields: &Fields) -> Fields {
    let kept = fields
        .iter()
        .filter(|(name, value)| !name.starts_with('$') && !value.is_null());
    kept.map(|(name, value)| (name.clone(), clean(value)))
        .collect()
}

fn clean(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(without_directives(fields)),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::Registry;

    fn pod(patch: &Value) -> Value {
        let pods = Registry::built_in().find("", "v1", "pods").unwrap();
        let current = json!({"metadata": {"finalizers": ["x"]}, "spec": {
            "containers": [{"name": "a", "image": "1", "args": ["x"]}, {"name": "b", "image": "1"}],
            "volumes": [{"name": "v", "emptyDir": {}}],
        }});
        merge(pods.as_ref(), &current, patch).unwrap()["spec"].clone()
    }

    #[test]
    fn items_merge_by_their_key() {
        let spec = pod(
            &json!({"spec": {"containers": [{"name": "b", "image": "2"}, {"name": "c", "image": "1"}]}}),
        );
        let names: Vec<_> = spec["containers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["name"].clone())
            .collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(spec["containers"][1]["image"], "2");
        assert_eq!(spec["containers"][0]["args"], json!(["x"]));
    }

    #[test]
    fn directives_delete_replace_order_and_retain() {
        let spec = pod(&json!({"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}));
        assert_eq!(spec["containers"], json!([{"name": "b", "image": "1"}]));
        let spec = pod(&json!({"spec": {"containers": [{"name": "z"}, {"$patch": "replace"}]}}));
        assert_eq!(spec["containers"], json!([{"name": "z"}]));
        let spec =
            pod(&json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}));
        assert_eq!(spec["containers"][0]["name"], "b");
        let volume =
            json!({"name": "v", "$retainKeys": ["name", "secret"], "secret": {"secretName": "s"}});
        let spec = pod(&json!({"spec": {"volumes": [volume]}}));
        assert_eq!(
            spec["volumes"],
            json!([{"name": "v", "secret": {"secretName": "s"}}])
        );
    }
}
