//! Where rclone's configuration leads: a checksum that changes when a section comes to mean another store.
//!
//! Invariant: nothing secret has a part in it, neither in clear nor in the checksum: an option counts only if it is listed
//! here, and of an address neither what stands before its `@` nor what follows its `?`.

use std::collections::{BTreeMap, BTreeSet};

use syncline_api::names::checksum;

/// Options that say where a store is, or as whom its home is entered.
const PLACES: [&str; 43] = [
    "account",
    "api_url",
    "auth",
    "compartment",
    "doi",
    "domain",
    "drive_id",
    "endpoint",
    "host",
    "hostname",
    "impersonate",
    "library",
    "mountid",
    "namenode",
    "namespace",
    "port",
    "provider",
    "region",
    "root_folder_id",
    "root_folder_slug",
    "root_id",
    "root_namespace",
    "root_prefix",
    "sas_url",
    "service",
    "share_name",
    "shared_files",
    "shared_folder",
    "shared_folders",
    "shared_with_me",
    "site",
    "storage_url",
    "team_drive",
    "tenant",
    "tenant_domain",
    "tenant_id",
    "tenant_url",
    "type",
    "unix_socket",
    "url",
    "user",
    "username",
    "workspace_id",
];
/// Options that say which other sections, or which paths, a section is made of.
const REMOTES: [&str; 3] = ["remote", "remotes", "upstreams"];
/// How the Secret's keys begin that are options of one section.
const OF_SECTION: &str = "RCLONE_CONFIG_";

/// Options and their values.
type Options = BTreeMap<String, String>;
/// Sections by their names.
pub(super) type Sections = BTreeMap<String, Options>;

/// Where `section` leads, by the sections of `rclone.conf` and the Secret's other keys.
pub(super) fn leads(sections: &Sections, variables: &Options, section: &str) -> String {
    let names = names(sections, variables);
    let mut open = vec![section.to_owned()];
    let mut seen = BTreeSet::new();
    let mut found = BTreeSet::new();
    while let Some(name) = open.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        let options = options(sections, variables, &name);
        // What b2 calls its account is the number of a key, which goes with the key.
        let keyed = options.get("type").is_some_and(|kind| kind == "b2");
        for (option, value) in &options {
            if REMOTES.contains(&option.as_str()) {
                open.extend(named(value, &names));
            }
            let place = place(option, value).filter(|_| !(keyed && option == "account"));
            found.extend(place.map(|place| format!("{name} {option} {place}")));
        }
    }
    let found: Vec<String> = found.into_iter().collect();
    checksum(&found.join("\n"))
}

/// The names of all sections; those of variables alone are known in capitals only.
fn names(sections: &Sections, variables: &Options) -> Vec<String> {
    let of_variables = variables.keys().filter_map(|key| {
        let name = key.strip_prefix(OF_SECTION)?.strip_suffix("_TYPE")?;
        Some(name.to_owned())
    });
    sections.keys().cloned().chain(of_variables).collect()
}

/// A section's options. The Secret's keys go before what stands in `rclone.conf`, and those for one section before those
/// for all of a kind, as in rclone.
fn options(sections: &Sections, variables: &Options, name: &str) -> Options {
    let beginning_with = |prefix: String| {
        let options = variables.iter().filter_map(move |(key, value)| {
            let option = key.strip_prefix(&prefix)?;
            Some((option.to_lowercase(), value.clone()))
        });
        options.collect::<Options>()
    };
    let of_section = beginning_with(format!("{OF_SECTION}{}_", name.to_uppercase()));
    let mut all = sections.get(name).cloned().unwrap_or_default();
    let kind = of_section.get("type").or_else(|| all.get("type"));
    let kind = kind.map(|kind| match kind.as_str() {
        "google cloud storage" => "GCS".to_owned(),
        kind => kind.to_uppercase(),
    });
    all.extend(kind.map_or_else(Options::new, |kind| {
        beginning_with(format!("RCLONE_{kind}_"))
    }));
    all.extend(of_section);
    all
}

/// The sections that a value may name; one too many does no harm.
fn named(value: &str, names: &[String]) -> Vec<String> {
    let value = value.to_uppercase();
    let is_named = |name: &&String| {
        let name = name.to_uppercase();
        value.contains(&format!("{name}:")) || value.contains(&format!("{name},"))
    };
    names.iter().filter(is_named).cloned().collect()
}

/// What an option says of a place, without anything secret.
fn place(option: &str, value: &str) -> Option<String> {
    if REMOTES.contains(&option) {
        // What follows a comma may be options of the remote's, secret ones too.
        return value.split(',').next().map(str::to_owned);
    }
    if !PLACES.contains(&option) {
        return None;
    }
    Some(match option {
        "user" | "username" => value.to_owned(),
        _ => without_secrets(value),
    })
}

/// An address without what it may have of credentials.
fn without_secrets(address: &str) -> String {
    let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}/{path}")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::store::parse;
    use super::*;

    fn with(config: &str, variables: &[(&str, &str)]) -> String {
        let variables: Options = variables
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        leads(&parse(config).unwrap(), &variables, "s3")
    }

    fn of(config: &str) -> String {
        with(config, &[])
    }

    const S3: &str =
        "[s3]\ntype = s3\nendpoint = https://a:9000\naccess_key_id = A\nsecret_access_key = B\n";

    #[rstest]
    #[case::endpoint("https://a:9000", "https://b:9000")]
    #[case::port("https://a:9000", "https://a:9001")]
    #[case::kind("= s3", "= gcs")]
    #[case::another_option("access_key_id", "region = eu\naccess_key_id")]
    fn another_store_is_told(#[case] from: &str, #[case] to: &str) {
        let changed = S3.replace(from, to);
        assert_ne!(changed, S3);
        assert_ne!(of(S3), of(&changed));
    }

    #[rstest]
    #[case::key("access_key_id = A", "access_key_id = C")]
    #[case::secret("secret_access_key = B", "secret_access_key = C")]
    #[case::session("access_key_id", "session_token = T\naccess_key_id")]
    #[case::token("access_key_id", "token = {\"expiry\":\"2026\"}\naccess_key_id")]
    #[case::password("access_key_id", "pass = P\npassword = P\naccess_key_id")]
    #[case::of_the_application("access_key_id", "client_id = I\nclient_secret = P\naccess_key_id")]
    #[case::credentials("access_key_id", "service_account_credentials = {}\naccess_key_id")]
    #[case::in_the_address("https://a", "https://user:pass@a")]
    #[case::behind_the_address("a:9000", "a:9000?sig=x")]
    #[case::how_much_at_once("access_key_id", "chunk_size = 8M\naccess_key_id")]
    #[case::another_section("[s3]", "[other]\ntype = local\n[s3]")]
    #[case::how_it_is_written("endpoint = ", "# mine\n endpoint=")]
    fn new_credentials_are_no_other_store(#[case] from: &str, #[case] to: &str) {
        let changed = S3.replace(from, to);
        assert_ne!(changed, S3);
        assert_eq!(of(S3), of(&changed));
    }

    #[test]
    fn the_account_of_b2_is_a_key_and_that_of_others_a_place() {
        let account = |kind: &str, of_whom: &str| {
            let config = format!("[s3]\ntype = {kind}\naccount = {of_whom}\n");
            of(&config)
        };
        assert_eq!(account("b2", "1"), account("b2", "2"));
        assert_ne!(account("azureblob", "1"), account("azureblob", "2"));
    }

    #[rstest]
    #[case("remote = base:bucket")]
    #[case("upstreams = base:x other=/y:ro")]
    #[case("remote = BASE:bucket")]
    fn what_a_section_is_made_of_counts(#[case] reference: &str) {
        let config = |endpoint: &str, pass: &str| {
            format!(
                "[s3]\ntype = crypt\n{reference}\npassword = {pass}\n[base]\nendpoint = {endpoint}\nremote = s3:\n"
            )
        };
        assert_ne!(of(&config("a", "P")), of(&config("b", "P")));
        assert_eq!(of(&config("a", "P")), of(&config("a", "Q")));
    }

    #[test]
    fn options_of_a_remote_that_stand_behind_a_comma_do_not_count() {
        let config = |remote: &str| of(&format!("[s3]\ntype = crypt\nremote = {remote}\n"));
        assert_ne!(config("a:x"), config("a:y"));
        assert_eq!(config(":s3,secret=A:x"), config(":s3,secret=B:x"));
    }

    #[test]
    fn the_secrets_keys_count_as_the_file_does() {
        let none = of(S3);
        let of_section = |value| with(S3, &[("RCLONE_CONFIG_S3_ENDPOINT", value)]);
        assert_eq!(of_section("https://a:9000"), none);
        assert_ne!(of_section("https://b:9000"), none);
        let of_kind = |value| ("RCLONE_S3_ENDPOINT", value);
        assert_ne!(with(S3, &[of_kind("https://b:9000")]), none);
        let both = [
            of_kind("https://b:9000"),
            ("RCLONE_CONFIG_S3_ENDPOINT", "https://a:9000"),
        ];
        assert_eq!(with(S3, &both), none, "the section's goes before");
        for (key, value) in [
            ("RCLONE_CONFIG_S3_SECRET_ACCESS_KEY", "C"),
            ("RCLONE_S3_SESSION_TOKEN", "C"),
            ("RCLONE_SFTP_HOST", "C"),
            ("RCLONE_CONFIG_OTHER_ENDPOINT", "C"),
            ("RCLONE_CONFIG_PASS", "C"),
            ("RCLONE_BWLIMIT", "1M"),
            ("AWS_SECRET_ACCESS_KEY", "C"),
        ] {
            assert_eq!(with(S3, &[(key, value)]), none, "{key}");
        }
        let wrapped = "[s3]\ntype = alias\nremote = base:\n";
        let base = |value| with(wrapped, &[("RCLONE_CONFIG_BASE_TYPE", value)]);
        assert_ne!(base("s3"), base("local"));
    }
}
