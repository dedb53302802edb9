//! What is seen of a store's configuration and certificate: which keys there are, which sections, and whether one leads
//! elsewhere than before. What they hold is the mover's alone.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use syncline_api::keys::RCLONE_CONF;

use super::leads::{Sections, leads};
use super::read::{Error, Reader};
use crate::subject::Spec;
use crate::validate::{Certificate, Holder};

/// How an encrypted `rclone.conf` begins; only rclone can read what follows.
const ENCRYPTED: &str = "RCLONE_ENCRYPT_V";

/// What the objects hold that a mover of rclone mounts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Store {
    /// The Secret with `rclone.conf`.
    pub config: Option<Keys>,
    /// The object with the certificate.
    pub certificate: Option<Keys>,
}

/// An object's keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// The object's version.
    pub version: String,
    /// The keys whose values are not empty.
    pub keys: BTreeSet<String>,
    /// The sections of `rclone.conf`; `None` where it is encrypted.
    pub sections: Option<BTreeSet<String>>,
    /// A checksum of where the section leads that is asked for; of an encrypted configuration, by the Secret's other keys
    /// alone. Nothing secret is in it.
    pub leads: String,
}

impl Keys {
    /// Those of a Secret.
    pub fn of_secret(secret: &Secret) -> Self {
        let data = secret.data.iter().flatten();
        let keys = data.filter(|(_, value)| !value.0.is_empty());
        Self {
            version: secret.metadata.resource_version.clone().unwrap_or_default(),
            keys: keys.map(|(key, _)| key.clone()).collect(),
            ..Self::default()
        }
    }

    /// Those of the Secret with `rclone.conf`, of which `section` is asked for.
    pub fn of_config(secret: &Secret, section: &str) -> Self {
        let data = secret.data.iter().flatten();
        let texts = data.filter(|(_, value)| !value.0.is_empty());
        let mut texts: BTreeMap<String, String> = texts
            .map(|(key, value)| (key.clone(), String::from_utf8_lossy(&value.0).into_owned()))
            .collect();
        let config = texts.remove(RCLONE_CONF).unwrap_or_default();
        let parsed = parse(&config);
        Self {
            sections: parsed.as_ref().map(|all| all.keys().cloned().collect()),
            leads: leads(&parsed.unwrap_or_default(), &texts, section),
            ..Self::of_secret(secret)
        }
    }

    /// Those of a `ConfigMap`.
    pub fn of_map(map: &ConfigMap) -> Self {
        fn filled<T>(
            data: Option<&BTreeMap<String, T>>,
            is_empty: impl Fn(&T) -> bool,
        ) -> impl Iterator<Item = String> {
            let filled = data
                .into_iter()
                .flatten()
                .filter(move |(_, value)| !is_empty(value));
            filled.map(|(key, _)| key.clone())
        }
        let texts = filled(map.data.as_ref(), String::is_empty);
        let bytes = filled(map.binary_data.as_ref(), |value| value.0.is_empty());
        Self {
            version: map.metadata.resource_version.clone().unwrap_or_default(),
            keys: texts.chain(bytes).collect(),
            ..Self::default()
        }
    }
}

/// Reads what a spec of rclone names.
pub(super) async fn store(reader: &Reader<'_>, spec: &Spec) -> Result<Store, Error> {
    let Some(remote) = spec.remote() else {
        return Ok(Store::default());
    };
    let mut store = Store::default();
    if let Some(name) = remote
        .rclone_config
        .as_deref()
        .filter(|name| !name.is_empty())
    {
        let secret: Option<Secret> = reader.get(name).await?;
        let section = remote.rclone_config_section.as_deref().unwrap_or_default();
        store.config = secret.map(|secret| Keys::of_config(&secret, section));
    }
    let Some(certificate) = remote.custom_ca.as_ref().and_then(Certificate::of) else {
        return Ok(store);
    };
    let name = certificate.name.as_str();
    store.certificate = match certificate.holder {
        Holder::Secret => reader.get(name).await?.as_ref().map(Keys::of_secret),
        Holder::ConfigMap => reader.get(name).await?.as_ref().map(Keys::of_map),
    };
    Ok(store)
}

/// The sections of an `rclone.conf`; `None` where it is encrypted.
pub(super) fn parse(config: &str) -> Option<Sections> {
    let lines = config
        .trim_start_matches('\u{feff}')
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with(['#', ';']));
    let mut all = Sections::new();
    let mut section = String::new();
    for line in lines {
        if line.starts_with(ENCRYPTED) {
            return None;
        }
        let name = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        if let Some(name) = name {
            name.trim().clone_into(&mut section);
            all.entry(section.clone()).or_default();
        } else if let Some((option, value)) = line.split_once(['=', ':'])
            && let Some(options) = all.get_mut(&section)
        {
            options.insert(option.trim().to_lowercase(), value.trim().to_owned());
        }
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(config: &str) -> Option<Vec<String>> {
        parse(config).map(|found| found.into_keys().collect())
    }

    #[test]
    fn sections_are_known_by_their_names_alone() {
        let config =
            "# mine\n[s3]\ntype = s3\nsecret_access_key = [x]\n\n ; [no]\n[ two ]\ntype=local\n";
        assert_eq!(names(config), Some(vec!["s3".to_owned(), "two".to_owned()]));
        assert_eq!(names(""), Some(Vec::new()));
    }

    #[test]
    fn of_an_encrypted_configuration_nothing_is_known() {
        assert_eq!(names("# comment\n\nRCLONE_ENCRYPT_V0:\nabc=\n"), None);
    }

    #[test]
    fn of_a_secret_its_version_keys_and_sections_are_kept_and_no_value() {
        let secret: Secret =
            serde_json::from_value(json!({"metadata": {"resourceVersion": "7"}, "data": {
            "rclone.conf": "W3MzXQp0eXBlID0gczMK", "RCLONE_BWLIMIT": "MU0=", "empty": ""}}))
            .unwrap();
        let keys = Keys::of_config(&secret, "s3");
        assert_eq!(keys.version, "7");
        assert!(keys.keys.iter().eq(["RCLONE_BWLIMIT", "rclone.conf"]));
        assert_eq!(keys.sections, Some(["s3".to_owned()].into()));
    }

    #[test]
    fn of_an_encrypted_configuration_the_other_keys_alone_say_where_it_leads() {
        let leads = |config: &str, endpoint: &str| {
            let bytes = |text: &str| k8s_openapi::ByteString(text.as_bytes().to_vec());
            let data = [
                (RCLONE_CONF.to_owned(), bytes(config)),
                ("RCLONE_CONFIG_S3_ENDPOINT".to_owned(), bytes(endpoint)),
            ];
            let secret = Secret {
                data: Some(data.into()),
                ..Secret::default()
            };
            Keys::of_config(&secret, "s3").leads
        };
        let encrypted = |rest: &str| format!("RCLONE_ENCRYPT_V0:\n{rest}\n");
        assert_eq!(leads(&encrypted("a="), "x"), leads(&encrypted("b="), "x"));
        assert_ne!(leads(&encrypted("a="), "x"), leads(&encrypted("a="), "y"));
    }

    #[test]
    fn a_certificate_may_be_text_or_bytes_of_a_config_map() {
        let map: ConfigMap =
            serde_json::from_value(json!({"metadata": {}, "data": {"a": "x", "b": ""},
            "binaryData": {"c": "eA=="}}))
            .unwrap();
        assert!(Keys::of_map(&map).keys.iter().eq(["a", "c"]));
    }
}
