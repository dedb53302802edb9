//! What must not be said: values of secret keys, passwords in addresses, signatures.

use crate::rclone::config::Config;
use crate::rclone::obscured::revealed;

/// What stands in a secret's place.
const HIDDEN: &str = "[hidden]";

/// A shorter value hides nothing and would make every line unreadable.
const SHORTEST: usize = 4;

/// Parts of the names of keys whose values are secret.
const SECRET_PARTS: &[&str] = &[
    "pass",
    "secret",
    "token",
    "cred",
    "private",
    "cookie",
    "auth",
    "sas",
    "signature",
    "salt",
    "bearer",
    "otp",
    "session",
    "header",
    "jwt",
    "connection_string",
    "grant",
];

/// Names of keys that end in one of these say where something is, or whether.
const PLACES: &[&str] = &["_file", "_path", "_url", "_command", "_dir", "_endpoint"];

/// Words after which a secret stands, with the sign between.
const MARKS: &[&str] = &[
    "x-amz-signature",
    "x-amz-security-token",
    "x-amz-credential",
    "x-goog-signature",
    "client_assertion",
    "assertion",
    "client_secret",
    "secret_access_key",
    "secretaccesskey",
    "signature",
    "password",
    "passwd",
    "accountkey",
    "sharedaccesskey",
    // So end the names of all tokens: access_token, id_token, SessionToken, WebIdentityToken.
    "token",
    "sig",
];

/// Ends of the names of XML's elements whose text is secret: what Amazon's token service answers, above all.
const ELEMENTS: &[&str] = &[
    "secretaccesskey",
    "token",
    "password",
    "secret",
    "samlassertion",
];

/// Headers whose whole value is secret.
const HEADERS: &[&str] = &[
    "authorization:",
    "x-amz-security-token:",
    "x-auth-token:",
    "x-auth-key:",
    "x-subject-token:",
    "encryption-customer-key:",
    "x-ms-encryption-key:",
    "cookie:",
];

/// Hides the secrets of one configuration, and what looks like a secret of any.
#[derive(Clone, Default)]
pub(crate) struct Redactor {
    /// Longest first: one may be a part of another.
    values: Vec<String>,
}

impl Redactor {
    /// A redactor for all secrets of `config`.
    pub(crate) fn of(config: &Config) -> Self {
        let mut redactor = Self::default();
        let entries = config
            .sections
            .iter()
            .flat_map(|section| &section.entries)
            .chain(&config.keys);
        for (key, value) in entries {
            redactor.learn(&key.to_lowercase(), value);
        }
        redactor
            .values
            .sort_by_key(|value| std::cmp::Reverse(value.len()));
        redactor.values.dedup();
        redactor
    }

    fn learn(&mut self, key: &str, value: &str) {
        if is_secret(key) {
            self.hide(value);
            self.hide_within_json(value);
            // Keys in PEM stand in one line, their line breaks written out.
            for part in value.replace("\\n", "\n").split([',', ';', ' ', '\n']) {
                self.hide(part);
            }
        }
        if let Some(clear) = revealed(value) {
            self.hide(value);
            self.hide(&clear);
        }
        // A remote made up on the spot: `:s3,secret_access_key=…:bucket`. Or what Azure calls a connection: `AccountKey=…;…`.
        for (key, value) in value
            .split([',', ';', '&', '?'])
            .filter_map(|part| part.split_once('='))
        {
            let key = key.trim();
            if is_secret(&key.to_lowercase()) || MARKS.contains(&key.to_lowercase().as_str()) {
                self.hide(value);
                self.hide(value.split(':').next().unwrap_or_default());
            }
        }
        if let Some((_, rest)) = value.split_once("://")
            && let Some((user, _)) = rest
                .split('/')
                .next()
                .and_then(|host| host.rsplit_once('@'))
            && let Some((_, password)) = user.split_once(':')
        {
            self.hide(password);
        }
    }

    fn hide(&mut self, value: &str) {
        let value = value.trim().trim_matches(['"', '\'', '`']);
        if value.len() < SHORTEST || is_plain(value) {
            return;
        }
        self.values.push(value.to_owned());
        let encoded = percent_encoded(value);
        if encoded != value {
            self.values.push(encoded.replace("%20", "+"));
            self.values.push(encoded);
        }
        self.values.extend(json_encoded(value));
    }

    fn hide_within_json(&mut self, text: &str) {
        if let Ok(json) = serde_json::from_str::<serde_json::Value>(text) {
            let mut pending = vec![&json];
            while let Some(value) = pending.pop() {
                match value {
                    serde_json::Value::String(text) if text.len() >= 2 * SHORTEST => {
                        self.hide(text);
                        text.lines().for_each(|line| self.hide(line));
                    }
                    serde_json::Value::Array(values) => pending.extend(values),
                    serde_json::Value::Object(values) => pending.extend(values.values()),
                    _ => {}
                }
            }
        }
    }

    /// `text` without secrets.
    pub(crate) fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for value in &self.values {
            if text.contains(value.as_str()) {
                text = text.replace(value.as_str(), HIDDEN);
            }
        }
        without_keys(without_elements(without_marks(without_headers(
            without_userinfo(text),
        ))))
    }
}

/// Is the value of the key `name` (in lower case) a secret?
fn is_secret(name: &str) -> bool {
    if name == "sas_url" || name.ends_with("_sas_url") {
        return true;
    }
    if PLACES.iter().any(|end| name.ends_with(end)) {
        return false;
    }
    let mut words = name.split('_');
    SECRET_PARTS.iter().any(|part| name.contains(part))
        || words.any(|word| matches!(word, "key" | "pem" | "apikey"))
}

/// Is `value`, under whatever key, a word that many lines have, or an address? Of an address only a part is secret, and that
/// is found by itself.
fn is_plain(value: &str) -> bool {
    let scheme = value.split("://").next().unwrap_or_default();
    matches!(value, "true" | "false" | "none" | "null")
        || matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https")
}

fn percent_encoded(value: &str) -> String {
    value
        .bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

/// `value` as it stands between the quotes of JSON, where it stands there in another way. Go, and so rclone, writes three
/// signs more as numbers than others do.
fn json_encoded(value: &str) -> Vec<String> {
    let quoted = serde_json::Value::from(value).to_string();
    let inside = quoted
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(value);
    let of_go = inside
        .replace('&', "\\u0026")
        .replace('<', "\\u003c")
        .replace('>', "\\u003e");
    let mut encoded = vec![inside.to_owned(), of_go];
    encoded.retain(|encoded| encoded != value);
    encoded
}

/// Hides `user:password` in addresses.
fn without_userinfo(text: String) -> String {
    if !text.contains("://") {
        return text;
    }
    let mut clean = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("://") {
        let host_end = after
            .find(|character: char| character.is_whitespace() || "/?#\"'<>".contains(character))
            .unwrap_or(after.len());
        let (host, tail) = after.split_at(host_end);
        clean.push_str(before);
        clean.push_str("://");
        match host.rsplit_once('@') {
            Some((_, host)) => {
                clean.push_str(HIDDEN);
                clean.push('@');
                clean.push_str(host);
            }
            None => clean.push_str(host),
        }
        rest = tail;
    }
    clean.push_str(rest);
    clean
}

/// Hides the values of headers that authenticate.
fn without_headers(text: String) -> String {
    let lower = text.to_ascii_lowercase();
    if !HEADERS.iter().any(|header| lower.contains(header)) {
        return text;
    }
    let lines = text.split_inclusive('\n').map(|line| {
        let lower = line.to_ascii_lowercase();
        let found = HEADERS
            .iter()
            .filter_map(|header| lower.find(header).map(|place| place + header.len()))
            .min();
        match found.and_then(|end| line.get(..end)) {
            Some(kept) => format!("{kept} {HIDDEN}\n"),
            None => line.to_owned(),
        }
    });
    lines.collect::<String>().trim_end_matches('\n').to_owned()
}

/// Hides what follows `signature=`, `"access_token": "` and the like.
fn without_marks(text: String) -> String {
    let lower = text.to_ascii_lowercase();
    if !MARKS.iter().any(|mark| lower.contains(mark)) {
        return text;
    }
    let mut clean = String::with_capacity(text.len());
    let mut place = 0;
    while let Some(start) = after_mark(&lower, place) {
        let end = end_of_value(&text, start);
        clean.push_str(text.get(place..start).unwrap_or_default());
        if end > start {
            clean.push_str(HIDDEN);
        }
        place = end;
    }
    clean.push_str(text.get(place..).unwrap_or_default());
    clean
}

/// Where the value ends that begins at `start`: in JSON only the quote that closes it does that.
fn end_of_value(text: &str, start: usize) -> usize {
    let is_end = |character: char| character.is_whitespace() || "&,;\"'<>)]}".contains(character);
    let Some((before, rest)) = text.split_at_checked(start) else {
        return text.len();
    };
    let line = rest.split('\n').next().unwrap_or(rest);
    let length = if before.ends_with('"') {
        closing_quote(line, before.ends_with("\\\""))
    } else {
        line.find(is_end)
    };
    start + length.unwrap_or(line.len())
}

/// Where the quote stands that closes a value of JSON, which may itself be `within_quotes`: all its strokes and quotes have a
/// stroke of their own there.
fn closing_quote(line: &str, within_quotes: bool) -> Option<usize> {
    // So many strokes stand before a quote of the value's own: 1, 3, 5, …, or 3, 7, 11, …
    let (every, first) = if within_quotes { (4, 3) } else { (2, 1) };
    let mut quotes = line.match_indices('"').map(|(place, _)| place);
    quotes.find(|place| {
        let before = line.get(..*place).unwrap_or_default();
        let strokes = before.len() - before.trim_end_matches('\\').len();
        strokes % every != first
    })
}

/// Where the first value behind a mark begins, from `from` on.
fn after_mark(lower: &str, from: usize) -> Option<usize> {
    let values = MARKS.iter().filter_map(|mark| {
        let mut from = from;
        loop {
            let end = from + lower.get(from..)?.find(mark)? + mark.len();
            match assigned(lower.get(end..)?) {
                Some(length) => return Some(end + length),
                None => from = end,
            }
        }
    });
    values.min()
}

/// How long the sign between a name and its value is: `=`, or what JSON has there.
fn assigned(rest: &str) -> Option<usize> {
    if rest.starts_with('=') {
        return Some(1);
    }
    // Within a text in quotes the quotes of JSON are written with a stroke.
    let key = after_quote(rest)?.trim_start();
    let value = after_quote(key.strip_prefix(':')?.trim_start())?;
    Some(rest.len() - value.len())
}

fn after_quote(text: &str) -> Option<&str> {
    text.strip_prefix('\\').unwrap_or(text).strip_prefix('"')
}

/// Hides the text of XML's elements that hold secrets.
fn without_elements(text: String) -> String {
    if !text.contains('<') {
        return text;
    }
    let mut clean = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((before, tail)) = rest.split_once('<') {
        clean.push_str(before);
        clean.push('<');
        rest = tail;
        let Some((name, inside)) = tail.split_once('>') else {
            break;
        };
        let name = name.split_whitespace().next().unwrap_or_default();
        let lower = name.to_ascii_lowercase();
        let is_secret = ELEMENTS.iter().any(|end| lower.ends_with(end)) && !lower.starts_with('/');
        // Of a text that is cut off nothing after the element is kept.
        let end = inside.find('<').unwrap_or(inside.len());
        if is_secret && end > 0 {
            clean.push_str(tail.get(..tail.len() - inside.len()).unwrap_or_default());
            clean.push_str(HIDDEN);
            rest = inside.get(end..).unwrap_or_default();
        }
    }
    clean.push_str(rest);
    clean
}

/// Hides private keys in PEM.
fn without_keys(text: String) -> String {
    let Some((before, rest)) = text.split_once("-----BEGIN ") else {
        return text;
    };
    let after = rest
        .rsplit_once("-----END ")
        .and_then(|(_, tail)| tail.split_once("-----"))
        .map_or("", |(_, tail)| tail);
    format!("{before}{HIDDEN}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rclone::config::Section;
    use proptest::prelude::*;
    use rstest::rstest;

    fn redactor(entries: &[(&str, &str)]) -> Redactor {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Redactor::of(&Config {
            sections: vec![Section {
                name: "x".to_owned(),
                entries: entries.iter().map(own).collect(),
            }],
            keys: vec![(
                "RCLONE_CONFIG_PASS".to_owned(),
                "ENVIRONMENT-CANARY".to_owned(),
            )],
            ..Config::default()
        })
    }

    #[rstest]
    #[case("secret_access_key", "CANARY/1+2")]
    #[case("access_key_id", "CANARYID")]
    #[case("session_token", "CANARY")]
    #[case("pass", "CANARY")]
    #[case("password2", "CANARY")]
    #[case("key_pem", "CANARY")]
    #[case("account_key", "CANARY")]
    #[case(
        "service_account_credentials",
        r#"{"private_key":"CANARY-inside","n":1}"#
    )]
    #[case("token", r#"{"access_token":"CANARY-inside","expiry":"2026"}"#)]
    #[case("headers", "X-Mine,CANARY")]
    #[case("url", "https://me:CANARY@host/path")]
    #[case("remote", ":s3,provider=Other,secret_access_key=CANARY:bucket")]
    #[case("sas_url", "https://host/c?sv=1&sig=CANARY")]
    #[case(
        "connection_string",
        "AccountName=someone;AccountKey=CANARY+/==;EndpointSuffix=core"
    )]
    #[case("access_grant", "CANARY")]
    #[case("pass", "httpCANARY")]
    #[case("client_secret", "https-CANARY")]
    #[case("bearer_token", "https://me:CANARY@host/path")]
    #[case("bearer_token", "HTTPS://me:CANARY@host/path")]
    fn values_of_secret_keys_are_hidden(#[case] key: &str, #[case] value: &str) {
        let redactor = redactor(&[(key, value)]);
        let encoded = percent_encoded(value);
        let said = redactor.redact(&format!("value {value}, in an address {encoded}"));
        assert!(!said.contains("CANARY"), "{said}");
    }

    #[test]
    fn a_password_that_was_obscured_is_hidden_in_the_clear_too() {
        let obscured = "Xy-ttM9JMvbJnXA9QIYVudZGGjoJJDg3Fc7ccQ";
        for key in ["pass", "library_key"] {
            let said = redactor(&[(key, obscured)]).redact(&format!("{obscured}: secret words"));
            assert_eq!(said, "[hidden]: [hidden]");
        }
    }

    #[rstest]
    #[case("key_file", "/rclone-config/id_rsa")]
    #[case("endpoint", "https://s3.example")]
    #[case("env_auth", "true")]
    #[case("region", "us-east-1")]
    #[case("auth_url", "https://auth.example/v3")]
    #[case("user", "someone")]
    #[case("bearer_token", "HTTPS://auth.example/v3")]
    #[case("remote", ":azureblob,authority=https://login.example:container")]
    fn what_helps_to_understand_stays(#[case] key: &str, #[case] value: &str) {
        assert_eq!(redactor(&[(key, value)]).redact(value), value);
    }

    #[rstest]
    #[case(
        "dial https://u:CANARY@host:443/x: refused",
        "dial https://[hidden]@host:443/x: refused"
    )]
    #[case(
        "GET /x?X-Amz-Signature=CANARY&x=1",
        "GET /x?X-Amz-Signature=[hidden]&x=1"
    )]
    #[case(
        "Authorization: AWS4-HMAC CANARY, Signature=CANARY\nHost: h",
        "Authorization: [hidden]\nHost: h"
    )]
    #[case(
        "{\"access_token\":\"CANARY\",\"b\":1}",
        "{\"access_token\":\"[hidden]\",\"b\":1}"
    )]
    #[case(
        "{\"access_token\": \"CANARY\", \"id_token\" : \"CANARY\"}",
        "{\"access_token\": \"[hidden]\", \"id_token\" : \"[hidden]\"}"
    )]
    #[case(
        r#"body "{\"refresh_token\": \"CANARY\"}" and token, sig"#,
        r#"body "{\"refresh_token\": \"[hidden]"}" and token, sig"#
    )]
    #[case(
        "<Credentials><AccessKeyId>A</AccessKeyId><SecretAccessKey>CANARY/+=</SecretAccessKey><SessionToken>CANARY</SessionToken>",
        "<Credentials><AccessKeyId>A</AccessKeyId><SecretAccessKey>[hidden]</SecretAccessKey><SessionToken>[hidden]</SessionToken>"
    )]
    #[case("cut <SessionToken>CANARY", "cut <SessionToken>[hidden]")]
    #[case("<a><b/></a> x<y>z <", "<a><b/></a> x<y>z <")]
    #[case(
        "WebIdentityToken=CANARY&Action=Assume",
        "WebIdentityToken=[hidden]&Action=Assume"
    )]
    #[case(
        "X-Amz-Server-Side-Encryption-Customer-Key: CANARY",
        "X-Amz-Server-Side-Encryption-Customer-Key: [hidden]"
    )]
    #[case(
        "a -----BEGIN RSA PRIVATE KEY-----\nCANARY\n-----END RSA PRIVATE KEY----- b",
        "a [hidden] b"
    )]
    #[case("cut off -----BEGIN RSA PRIVATE KEY-----\nCANARY", "cut off [hidden]")]
    #[case("login=me&passwd=CANARY&x=1", "login=me&passwd=[hidden]&x=1")]
    #[case(
        "AccountName=me;AccountKey=CANARY==;x=y",
        "AccountName=me;AccountKey=[hidden];x=y"
    )]
    #[case(
        r#"{"password":"CANARY\"CANARY, CANARY\\","b":1}"#,
        r#"{"password":"[hidden]","b":1}"#
    )]
    #[case(
        r#"body "{\"password\":\"CANARY\\\"CANARY, CANARY\",\"b\":1}""#,
        r#"body "{\"password\":\"[hidden]",\"b\":1}""#
    )]
    #[case(
        "{\"token\":\"CANARY, CANARY\n{\"a\":\"b\"}",
        "{\"token\":\"[hidden]\n{\"a\":\"b\"}"
    )]
    #[case("open /etc/passwd: refused", "open /etc/passwd: refused")]
    #[case("password ENVIRONMENT-CANARY", "password [hidden]")]
    fn what_looks_like_a_secret_is_hidden(#[case] words: &str, #[case] said: &str) {
        assert_eq!(redactor(&[]).redact(words), said);
    }

    #[rstest]
    #[case("connection_string", "AccountName=someone;AccountKey=CANARY+/==;x=y")]
    #[case("connection_string", "AccountName=someone; SharedAccessKey=CANARY+/==")]
    #[case(
        "connection_string",
        "Endpoint=x;SharedAccessSignature=sv=1&sig=CANARY+/=="
    )]
    #[case("remote", ":azurefiles,account_key=CANARY+/==:share")]
    fn a_key_among_other_values_is_hidden_by_itself(#[case] key: &str, #[case] value: &str) {
        let said = redactor(&[(key, value)]).redact("SharedKey someone:CANARY+/== refused");
        assert_eq!(said, "SharedKey someone:[hidden] refused");
    }

    #[rstest]
    #[case(r#"CANARY"CANARY"#, r#"CANARY\"CANARY"#)]
    #[case(r"CANARY\CANARY", r"CANARY\\CANARY")]
    #[case("CANARY&<CANARY>", r"CANARY\u0026\u003cCANARY\u003e")]
    fn a_value_is_hidden_as_json_writes_it_too(#[case] value: &str, #[case] written: &str) {
        let redactor = redactor(&[("pass", value)]);
        let said = redactor.redact(&format!(r#"{{"key":"{written}","plain":"{value}"}}"#));
        assert_eq!(said, r#"{"key":"[hidden]","plain":"[hidden]"}"#);
    }

    #[test]
    fn a_value_that_contains_another_is_hidden_whole() {
        let redactor = redactor(&[("pass", "CANARY"), ("secret", "CANARY-LONGER")]);
        assert_eq!(redactor.redact("x CANARY-LONGER y"), "x [hidden] y");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_and_no_secret_comes_through(before in "\\PC{0,40}", after in "\\PC{0,40}") {
            let redactor = redactor(&[("pass", "C4N4RY-C4N4RY")]);
            let said = redactor.redact(&format!("{before}C4N4RY-C4N4RY{after}"));
            prop_assert!(!said.contains("C4N4RY-C4N4RY"));
        }
    }
}
