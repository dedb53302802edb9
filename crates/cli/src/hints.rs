//! What to do about a refusal, read from the server's words: they are the same on every cluster.

/// The hint that goes with a message, if there is one.
pub(crate) fn of(message: &str) -> Option<String> {
    if let Some(name) = missing_namespace(message) {
        return Some(format!(
            "make it: printf 'apiVersion: v1\\nkind: Namespace\\nmetadata: {{name: {name}}}\\n' | syncline apply -f -"
        ));
    }
    if message.contains("unknown field \"") {
        return Some("no field is called so at that place: mind the spelling".to_owned());
    }
    schedule(message)
}

/// `namespaces "X" not found`: the X.
fn missing_namespace(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("namespaces \"")?;
    rest.split_once("\" not found").map(|(name, _)| name)
}

/// A schedule that the schema refuses is told with a regular expression, which says little to a person.
fn schedule(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("schedule: Invalid value: \"")?;
    let (value, rest) = rest.split_once("\": ")?;
    let form = "a schedule has five fields (minute hour day-of-month month day-of-week) or is one of @hourly, @daily, @weekly, @monthly, @yearly";
    rest.contains("should match").then(|| {
        let count = value
            .split_whitespace()
            .filter(|word| !word.starts_with("CRON_TZ=") && !word.starts_with("TZ="))
            .count();
        match count {
            _ if value.starts_with('@') => form.to_owned(),
            5 => format!("{form}; each field is *, */N, or numbers as in 1,2 or 1-5; names such as mon or jan are not taken"),
            1 => format!("{form}; this one has 1 field"),
            _ => format!("{form}; this one has {count} fields"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_namespace_is_cured_with_one_line() {
        let hint = of("namespaces \"east\" not found").unwrap();
        assert!(
            hint.contains("{name: east}") && hint.contains("syncline apply -f -"),
            "{hint}"
        );
        assert_eq!(of("pods \"east\" not found"), None);
    }

    #[test]
    fn a_schedule_that_is_refused_is_counted() {
        let told = |value: &str| {
            of(&format!(
                "spec.trigger.schedule: Invalid value: \"{value}\": spec.trigger.schedule in body should match '^(@(annually'"
            ))
            .unwrap()
        };
        assert!(told("* * *").ends_with("this one has 3 fields"));
        assert!(!told("@often").contains("this one"));
        assert!(told("x * * * *").contains("each field is"));
        assert!(told("TZ=Europe/Paris 0 2 * * mon").contains("names such as mon"));
        assert!(told("TZ=Europe/Paris 0 2 * *").ends_with("this one has 4 fields"));
    }
}
