//! Label and field selectors.

use serde_json::Value;

use super::status::Failure;
use crate::kinds::{label_value_faults, qualified_name_faults};

/// One requirement on a label.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    Exists(String),
    Absent(String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
}

/// A label selector and a field selector; both must hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector {
    labels: Vec<Requirement>,
    /// Path, wanted value, whether it must be equal.
    fields: Vec<(String, String, bool)>,
}

impl Selector {
    /// Reads both selectors; `fields` lists the field paths that the resource knows beside name and namespace.
    pub(crate) fn parse(
        labels: Option<&str>,
        fields: Option<&str>,
        known: &[String],
    ) -> Result<Self, Failure> {
        Ok(Self {
            labels: parse_labels(labels.unwrap_or_default())?,
            fields: parse_fields(fields, known)?,
        })
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.labels
            .iter()
            .all(|requirement| requirement.holds(object))
            && self
                .fields
                .iter()
                .all(|(path, wanted, equal)| (field(object, path) == *wanted) == *equal)
    }
}

impl Requirement {
    fn holds(&self, object: &Value) -> bool {
        let labels = object.pointer("/metadata/labels");
        let label = |key: &str| {
            labels
                .and_then(|labels| labels.get(key))
                .and_then(Value::as_str)
        };
        match self {
            Self::Exists(key) => label(key).is_some(),
            Self::Absent(key) => label(key).is_none(),
            Self::In(key, values) => {
                label(key).is_some_and(|found| values.iter().any(|value| value == found))
            }
            Self::NotIn(key, values) => {
                label(key).is_none_or(|found| values.iter().all(|value| value != found))
            }
        }
    }
}

impl Requirement {
    /// Keys and values must be those of labels.
    fn check(&self) -> Result<(), Failure> {
        let (key, values): (&str, &[String]) = match self {
            Self::In(key, values) | Self::NotIn(key, values) => (key, values),
            Self::Exists(key) | Self::Absent(key) => (key, &[]),
        };
        let fault = |place: &str, value: &str, fault: &str| {
            Failure::bad_request(format!(
                "unable to parse requirement: {place}: Invalid value: {value:?}: {fault}"
            ))
        };
        if let Some(text) = qualified_name_faults(key).first() {
            return Err(fault("<nil>", key, text));
        }
        for (index, value) in values.iter().enumerate() {
            if let Some(text) = label_value_faults(value).first() {
                return Err(fault(&format!("values[{index}][{key}]"), value, text));
            }
        }
        Ok(())
    }
}

/// The text of a field; absent ones are empty, as the real server's selectable fields are.
fn field(object: &Value, path: &str) -> String {
    let found = path
        .split('.')
        .try_fold(object, |value, part| value.get(part));
    match found {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

fn parse_fields(
    text: Option<&str>,
    known: &[String],
) -> Result<Vec<(String, String, bool)>, Failure> {
    let mut fields = Vec::new();
    for term in text
        .unwrap_or_default()
        .split(',')
        .filter(|term| !term.is_empty())
    {
        let (path, value, equal) = if let Some((path, value)) = term.split_once("!=") {
            (path, value, false)
        } else if let Some((path, value)) = term.split_once("==") {
            (path, value, true)
        } else if let Some((path, value)) = term.split_once('=') {
            (path, value, true)
        } else {
            let message = format!("invalid selector: '{term}'; can't understand '{term}'");
            return Err(Failure::bad_request(message));
        };
        if !matches!(path, "metadata.name" | "metadata.namespace")
            && !known.iter().any(|name| name == path)
        {
            // Kinds with fields of their own to select by say it in fewer words.
            if !known.is_empty() {
                return Err(Failure::bad_request(format!(
                    "field label not supported: {path}"
                )));
            }
            let own = ["metadata.name", "metadata.namespace"];
            let all = own.into_iter().chain(known.iter().map(String::as_str));
            let all: Vec<String> = all.map(|name| format!("\"{name}\"")).collect();
            let message = format!(
                "\"{path}\" is not a known field selector: only {}",
                all.join(", ")
            );
            return Err(Failure::bad_request(message));
        }
        fields.push((path.to_owned(), value.to_owned(), equal));
    }
    Ok(fields)
}

/// What a label selector is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Sign(&'static str),
    End,
}

impl std::fmt::Display for Token {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Word(word) => formatter.write_str(word),
            Self::Sign(sign) => formatter.write_str(sign),
            Self::End => Ok(()),
        }
    }
}

fn tokens(text: &str) -> Vec<Token> {
    const SIGNS: [&str; 9] = ["!=", "==", "=", "!", "(", ")", ",", ">", "<"];
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            found.push(Token::Sign(sign));
            rest = rest.get(sign.len()..).unwrap_or_default();
        } else {
            let end =
                rest.find(|letter: char| letter.is_whitespace() || "!=(),<>".contains(letter));
            let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
            found.push(Token::Word(word.to_owned()));
            rest = after;
        }
        rest = rest.trim_start();
    }
    found.push(Token::End);
    found
}

/// A reader of tokens, in the grammar and with the words of Kubernetes' own parser.
struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
}

fn parse_labels(text: &str) -> Result<Vec<Requirement>, Failure> {
    let mut parser = Parser {
        tokens: tokens(text).into_iter().peekable(),
    };
    let mut requirements = Vec::new();
    if parser.peek() == Token::End {
        return Ok(requirements);
    }
    loop {
        let requirement = parser.requirement()?;
        requirement.check()?;
        requirements.push(requirement);
        match parser.next() {
            Token::End => return Ok(requirements),
            Token::Sign(",") => {}
            other => return Err(unexpected(&other, "',' or 'end of string'")),
        }
    }
}

impl Parser {
    fn peek(&mut self) -> Token {
        self.tokens.peek().cloned().unwrap_or(Token::End)
    }

    fn next(&mut self) -> Token {
        self.tokens.next().unwrap_or(Token::End)
    }

    fn requirement(&mut self) -> Result<Requirement, Failure> {
        let key = match self.next() {
            Token::Sign("!") => {
                return match self.next() {
                    Token::Word(key) => Ok(Requirement::Absent(key)),
                    other => Err(unexpected(&other, "identifier")),
                };
            }
            Token::Word(key) => key,
            other => return Err(unexpected(&other, "!, identifier, or 'end of string'")),
        };
        match self.peek() {
            Token::End | Token::Sign(",") => Ok(Requirement::Exists(key)),
            _ => self.comparison(key),
        }
    }

    fn comparison(&mut self, key: String) -> Result<Requirement, Failure> {
        match self.next() {
            Token::Sign("=" | "==") => Ok(Requirement::In(key, vec![self.value()?])),
            Token::Sign("!=") => Ok(Requirement::NotIn(key, vec![self.value()?])),
            Token::Word(word) if word == "in" => Ok(Requirement::In(key, self.values()?)),
            Token::Word(word) if word == "notin" => Ok(Requirement::NotIn(key, self.values()?)),
            other => Err(unexpected(&other, "in, notin, =, ==, !=, gt, lt")),
        }
    }

    /// One value, which may be empty.
    fn value(&mut self) -> Result<String, Failure> {
        match self.peek() {
            Token::End | Token::Sign(",") => Ok(String::new()),
            _ => match self.next() {
                Token::Word(word) => Ok(word),
                other => Err(unexpected(&other, "identifier")),
            },
        }
    }

    fn values(&mut self) -> Result<Vec<String>, Failure> {
        match self.next() {
            Token::Sign("(") => {}
            other => return Err(unexpected(&other, "'('")),
        }
        let mut values = Vec::new();
        loop {
            match self.next() {
                Token::Word(word) => values.push(word),
                Token::Sign(",") => {}
                Token::Sign(")") => return Ok(values),
                other => {
                    let message = format!(
                        "unable to parse requirement: found '{other}', expected: ',' or ')'"
                    );
                    return Err(Failure::bad_request(message));
                }
            }
        }
    }
}

fn unexpected(found: &Token, expected: &str) -> Failure {
    Failure::bad_request(format!("found '{found}', expected: {expected}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[rstest::rstest]
    #[case("a=1", true)]
    #[case("a==1,b", true)]
    #[case("a!=1", false)]
    #[case("!a", false)]
    #[case("!z", true)]
    #[case("z!=1", true)]
    #[case("a in (1,2)", true)]
    #[case("a notin (1,2)", false)]
    #[case("z notin (1)", true)]
    #[case("a,b=", true)]
    #[case("app.kubernetes.io/name=x", false)]
    #[case("", true)]
    fn a_label_selector_selects(#[case] selector: &str, #[case] expected: bool) {
        let object = json!({"metadata": {"labels": {"a": "1", "b": ""}}});
        assert_eq!(
            Selector::parse(Some(selector), None, &[])
                .unwrap()
                .matches(&object),
            expected
        );
    }

    #[test]
    fn a_malformed_selector_is_refused_in_the_real_servers_words() {
        let fault = Selector::parse(Some("=="), None, &[]).unwrap_err();
        assert_eq!(
            fault.message,
            "found '==', expected: !, identifier, or 'end of string'"
        );
        let fault = Selector::parse(None, Some("data.a=1"), &[]).unwrap_err();
        assert_eq!(
            fault.message,
            "\"data.a\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        );
    }

    #[test]
    fn a_field_selector_compares_text_and_takes_absent_fields_as_empty() {
        let object = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n"}});
        let known = ["spec.nodeName".to_owned(), "status.phase".to_owned()];
        let matches = |text| {
            Selector::parse(None, Some(text), &known)
                .unwrap()
                .matches(&object)
        };
        assert!(matches("metadata.name=p,spec.nodeName!=x"));
        assert!(matches("status.phase="));
        assert!(!matches("spec.nodeName==x"));
    }
}
