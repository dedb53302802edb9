//! Reading: one object, lists, and lists in pages.

use std::sync::Arc;

use base64::{
    Engine as _,
    alphabet::URL_SAFE,
    engine::general_purpose::{GeneralPurpose, NO_PAD},
};
use serde_json::{Value, json};

use super::{
    Server, answer::Reply, dispatch::Call, forms, options::fault, query::Query, route::Target,
    selectors::Selector, status::Failure,
};
use crate::kinds::FieldError;
use crate::store::{Key, Stored};

/// Tokens as Go writes and reads them: it minds neither padding nor trailing bits.
const TOKENS: GeneralPurpose =
    GeneralPurpose::new(&URL_SAFE, NO_PAD.with_decode_allow_trailing_bits(true));

/// Where the next page starts and of which revision it is.
#[derive(Debug, PartialEq, Eq)]
struct Continue {
    /// `None` goes on in what there is now, which is not what the first page was of.
    revision: Option<u64>,
    /// The last `namespace/name` of the page before.
    after: String,
}

impl Continue {
    fn write(&self) -> String {
        let revision = self.revision.map_or_else(|| json!(-1), Value::from);
        let token =
            json!({"v": "meta.k8s.io/v1", "rv": revision, "start": format!("{}\0", self.after)});
        TOKENS.encode(token.to_string())
    }

    fn read(token: &str) -> Result<Self, Failure> {
        let fault = |cause: String| {
            Failure::bad_request(format!(
                "invalid continue token: continue key is not valid: {cause}"
            ))
        };
        let bytes = TOKENS
            .decode(token.trim_end_matches('='))
            .map_err(|error| fault(error.to_string()))?;
        let text: String = bytes.iter().copied().map(char::from).collect();
        let value: Value = serde_json::from_slice(&bytes).map_err(|_| {
            let first = text.chars().next().unwrap_or(' ');
            fault(format!(
                "invalid character '{first}' looking for beginning of value"
            ))
        })?;
        let revision = value
            .get("rv")
            .and_then(Value::as_i64)
            .ok_or_else(|| fault("it has no rv".to_owned()))?;
        let start = value
            .get("start")
            .and_then(Value::as_str)
            .ok_or_else(|| fault("it has no start".to_owned()))?;
        Ok(Self {
            revision: u64::try_from(revision).ok(),
            after: start.trim_end_matches('\0').to_owned(),
        })
    }
}

impl Server {
    /// Where a target's object is kept.
    pub(crate) fn key(target: &Target) -> Key {
        forms::key(target.resource.as_ref(), target.namespace(), target.name())
    }

    /// The object of a target, or the 404.
    pub(crate) fn fetch(&self, target: &Target) -> Result<Arc<Stored>, Failure> {
        let missing = || Failure::not_found(target.resource.as_ref(), target.name());
        self.store.get(&Self::key(target)).ok_or_else(missing)
    }

    /// `GET …/name`.
    pub(crate) fn get(&self, target: &Target) -> Result<Reply, Failure> {
        let stored = self.fetch(target)?;
        Ok(Reply::object(
            target,
            forms::shown_as(target.resource.as_ref(), &stored.object),
        ))
    }

    /// `GET …`, with selectors, pages and versions.
    pub(crate) fn list(&self, call: &Call, target: &Target) -> Result<Reply, Failure> {
        let resource = target.resource.as_ref();
        let selector = selector(call, target)?;
        let token = call.query.get("continue").map(Continue::read).transpose()?;
        if token.is_some()
            && call
                .query
                .get("resourceVersion")
                .is_some_and(|version| version != "0")
        {
            let message = "specifying resource version is not allowed when using continue";
            return Err(Failure::bad_request(message));
        }
        let (revision, objects) = self.objects(&call.query, target, token.as_ref())?;
        let after = token.map(|token| token.after);
        let mut selected = objects
            .iter()
            .filter(|stored| after.as_ref().is_none_or(|after| position(stored) > *after))
            .filter(|stored| selector.matches(&forms::shown_as(resource, &stored.object)));

        let limit = call.query.number("limit").filter(|limit| *limit > 0);
        let limit = limit
            .and_then(|limit| usize::try_from(limit).ok())
            .unwrap_or(usize::MAX);
        let page: Vec<&Arc<Stored>> = selected.by_ref().take(limit).collect();
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if let Some(last) = page.last()
            && selected.next().is_some()
            && let Some(fields) = metadata.as_object_mut()
        {
            let token = Continue {
                revision: Some(revision),
                after: position(last),
            };
            fields.insert("continue".to_owned(), Value::from(token.write()));
            let remaining = selected.count() + 1;
            // With a selector a real server does not know how many remain, and says nothing.
            if call.query.get("labelSelector").is_none()
                && call.query.get("fieldSelector").is_none()
            {
                fields.insert("remainingItemCount".to_owned(), Value::from(remaining));
            }
        }
        let items: Vec<Value> = page
            .into_iter()
            .map(|stored| item(target, stored))
            .collect();
        Ok(Reply::list(target, list_object(target, &metadata, &items)))
    }

    /// The objects that a list is made from, and their revision.
    fn objects(
        &self,
        query: &Query,
        target: &Target,
        token: Option<&Continue>,
    ) -> Result<(u64, Vec<Arc<Stored>>), Failure> {
        let name = forms::storage_name(target.resource.as_ref());
        let namespace = target.namespace.as_deref();
        if let Some(token) = token {
            let Some(revision) = token.revision else {
                return Ok(self.store.list(&name, namespace));
            };
            let remembered = self.store.list_at(&name, namespace, revision);
            let objects = remembered.map_err(|_| {
                Failure::page_expired(&Continue::write(&Continue {
                    revision: None,
                    after: token.after.clone(),
                }))
            })?;
            return Ok((revision, objects));
        }
        let wanted = wanted_version(query)?;
        let current = self.store.revision();
        match (wanted, query.get("resourceVersionMatch")) {
            (Some(wanted), _) if wanted > current => Err(Failure::future_version(wanted, current)),
            (Some(wanted), Some("Exact")) => {
                let remembered = self.store.list_at(&name, namespace, wanted);
                Ok((wanted, remembered.map_err(|_| Failure::list_expired())?))
            }
            _ => Ok(self.store.list(&name, namespace)),
        }
    }
}

/// `resourceVersion` of a list, with the rules on `resourceVersionMatch`; 0 and absence mean any.
fn wanted_version(query: &Query) -> Result<Option<u64>, Failure> {
    let version = query.get("resourceVersion");
    let errors = version_faults(query);
    if !errors.is_empty() {
        return Err(Failure::invalid_options("ListOptions", &errors));
    }
    let Some(version) = version else {
        return Ok(None);
    };
    let number = version.parse().map_err(|_| {
        Failure::bad_request(format!(
            "invalid resource version: resourceVersion: Invalid value: \"{version}\": strconv.ParseUint: parsing \"{version}\": invalid syntax"
        ))
    })?;
    Ok((number > 0).then_some(number))
}

/// What is wrong with the options of a list that are about versions.
fn version_faults(query: &Query) -> Vec<FieldError> {
    let version = query.get("resourceVersion");
    let mut errors = Vec::new();
    let (reason, message) = match (query.get("resourceVersionMatch"), version) {
        (Some(_), None) => (
            "FieldValueForbidden",
            "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"
                .to_owned(),
        ),
        (Some("Exact"), Some("0")) => (
            "FieldValueForbidden",
            "Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""
                .to_owned(),
        ),
        (Some(other), _) if !matches!(other, "Exact" | "NotOlderThan") => (
            "FieldValueNotSupported",
            format!(
                "Unsupported value: {other:?}: supported values: \"Exact\", \"NotOlderThan\", \"\""
            ),
        ),
        _ => ("", String::new()),
    };
    if !reason.is_empty() {
        errors.push(fault(reason, "resourceVersionMatch", message));
    }
    if query.get("sendInitialEvents").is_some() {
        let message = "Forbidden: sendInitialEvents is forbidden for list".to_owned();
        errors.push(fault("FieldValueForbidden", "sendInitialEvents", message));
    }
    errors
}

/// The selectors of a request.
pub(crate) fn selector(call: &Call, target: &Target) -> Result<Selector, Failure> {
    let mut known = target.resource.selectable_fields();
    if !target.resource.strategic() {
        known.push("metadata.name".to_owned());
    }
    Selector::parse(
        call.query.get("labelSelector"),
        call.query.get("fieldSelector"),
        &known,
    )
}

/// Where an object stands in the order of lists.
fn position(stored: &Stored) -> String {
    format!("{}/{}", stored.key.namespace, stored.key.name)
}

/// An object in a list: those of built-in kinds do not repeat their kind.
fn item(target: &Target, stored: &Stored) -> Value {
    let mut shown = forms::shown_as(target.resource.as_ref(), &stored.object);
    if target.resource.strategic()
        && let Some(fields) = shown.as_object_mut()
    {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    shown
}

/// A list of a target's kind.
pub(crate) fn list_object(target: &Target, metadata: &Value, items: &[Value]) -> Value {
    json!({
        "kind": target.resource.list_kind(),
        "apiVersion": forms::api_version(target.resource.as_ref()),
        "metadata": metadata,
        "items": items,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_continue_token_is_read_as_it_was_written() {
        let token = Continue {
            revision: Some(7),
            after: "default/one".to_owned(),
        };
        assert_eq!(Continue::read(&token.write()).unwrap(), token);
        let fault = Continue::read("zzz").unwrap_err();
        assert_eq!(
            fault.message,
            "invalid continue token: continue key is not valid: invalid character 'Ï' looking for beginning of value"
        );
    }
}
