//! Long lists in pieces. A token names the last entry that was told, so that it stays good while entries come and go.

use crate::error::Fault;

const PREFIX: &str = "after:";

/// One page of `all`, which is in the order of the ids, and the token for the next one (empty at the end).
/// No limit (0) means all.
pub(crate) fn page<T>(
    all: Vec<T>,
    limit: i32,
    token: &str,
    id: impl Fn(&T) -> &str,
) -> Result<(Vec<T>, String), Fault> {
    let limit = usize::try_from(limit)
        .map_err(|_| Fault::Invalid(format!("a page cannot have {limit} entries")))?;
    let after = match token {
        "" => "",
        token => token.strip_prefix(PREFIX).ok_or_else(|| {
            Fault::Aborted(format!(
                "`{token}` is no token of this list: start it again without one"
            ))
        })?,
    };
    let mut rest: Vec<T> = all
        .into_iter()
        .filter(|entry| after.is_empty() || id(entry) > after)
        .collect();
    if limit == 0 || rest.len() <= limit {
        return Ok((rest, String::new()));
    }
    rest.truncate(limit);
    let next = rest
        .last()
        .map(|entry| format!("{PREFIX}{}", id(entry)))
        .unwrap_or_default();
    Ok((rest, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(all: &[&'static str], limit: i32, token: &str) -> (Vec<&'static str>, String) {
        page(all.to_vec(), limit, token, |entry| entry).unwrap()
    }

    #[test]
    fn a_token_stays_good_while_entries_come_and_go() {
        let (first, token) = letters(&["a", "b", "c", "d"], 2, "");
        assert_eq!(first, ["a", "b"]);
        assert_eq!(
            letters(&["a", "c", "cc", "d"], 0, &token).0,
            ["c", "cc", "d"]
        );
        let (second, end) = letters(&["a", "b", "c", "d"], 2, &token);
        assert_eq!(
            (second.as_slice(), end.as_str()),
            (["c", "d"].as_slice(), "")
        );
    }

    #[test]
    fn a_strange_token_and_a_negative_limit_are_refused() {
        assert!(matches!(
            page(vec!["a"], 0, "invalid-token", |entry| entry),
            Err(Fault::Aborted(_))
        ));
        assert!(matches!(
            page(vec!["a"], -1, "", |entry| entry),
            Err(Fault::Invalid(_))
        ));
    }
}
