//! The options of a request, checked before anything is done: `dryRun`, `fieldManager`, `fieldValidation`, `force`.

use http::Method;

use super::{dispatch::Call, status::Failure};
use crate::kinds::FieldError;

/// The longest name of a field manager, in bytes.
const LONGEST_MANAGER: usize = 128;

/// Refuses options that are none, in the words of a real server.
pub(crate) fn check(call: &Call) -> Result<(), Failure> {
    let kind = match call.method {
        Method::POST => "CreateOptions",
        Method::PUT => "UpdateOptions",
        Method::PATCH => "PatchOptions",
        Method::DELETE => "DeleteOptions",
        _ => return number(call, "limit"),
    };
    let mut errors = Vec::new();
    if kind == "PatchOptions"
        && call.query.get("force").is_some()
        && !call.content_type.starts_with("application/apply-patch")
    {
        errors.push(fault(
            "FieldValueForbidden",
            "force",
            "Forbidden: may not be specified for non-apply patch".to_owned(),
        ));
    }
    if call
        .query
        .get("fieldManager")
        .is_some_and(|manager| manager.len() > LONGEST_MANAGER)
    {
        let message = format!("Too long: may not be more than {LONGEST_MANAGER} bytes");
        errors.push(fault("FieldValueTooLong", "fieldManager", message));
    }
    if let Some(other) = call.query.get("dryRun").filter(|value| *value != "All") {
        let message = format!("Unsupported value: [{other:?}]: supported values: \"All\"");
        errors.push(fault("FieldValueNotSupported", "dryRun", message));
    }
    let validation = call.query.get("fieldValidation");
    if let Some(other) = validation.filter(|value| !matches!(*value, "Ignore" | "Strict" | "Warn"))
    {
        let message = format!(
            "Unsupported value: {other:?}: supported values: \"\", \"Ignore\", \"Strict\", \"Warn\""
        );
        errors.push(fault("FieldValueNotSupported", "fieldValidation", message));
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Failure::invalid_options(kind, &errors))
    }
}

fn number(call: &Call, name: &str) -> Result<(), Failure> {
    match call.query.get(name) {
        Some(text) if text.parse::<i64>().is_err() => Err(Failure::bad_request(format!(
            "strconv.ParseInt: parsing {text:?}: invalid syntax"
        ))),
        _ => Ok(()),
    }
}

/// A fault of one option.
pub(crate) fn fault(reason: &'static str, field: &str, message: String) -> FieldError {
    FieldError {
        reason,
        field: field.to_owned(),
        message,
    }
}
