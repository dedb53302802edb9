//! What a mover is told by its environment.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use syncline_api::{env, report};

use crate::report::Fault;

/// The port that sshd listens on in the pod; Services map theirs to it.
const SERVER_PORT: u16 = 8022;
/// The port at the destination when none is told.
const DEFAULT_PORT: u16 = 22;
/// The name to log in with when none is told.
pub(crate) const DEFAULT_USER: &str = "root";

/// Folders and files of the pod. A mover outside of a pod (a test) is told others.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// The volume.
    pub(crate) data: PathBuf,
    /// The volume, where it is a block device instead of a file system.
    pub(crate) block: Option<PathBuf>,
    /// The Secret with the keys.
    pub(crate) keys: PathBuf,
    /// Where temporary files may be made; in memory in a pod.
    pub(crate) scratch: PathBuf,
    /// The termination message.
    pub(crate) report: PathBuf,
}

/// When `-z` is given to rsync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compress {
    /// On links that answer slowly.
    Auto,
    Always,
    Never,
}

/// A source's settings.
#[derive(Clone, Debug)]
pub(crate) struct SourceSettings {
    pub(crate) places: Places,
    pub(crate) address: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    /// A folder in the destination's volume; empty means its root.
    pub(crate) path: String,
    /// Entries that the source held after its last successful run; `None` when no such run is known.
    pub(crate) last_entries: Option<u64>,
    /// An empty source may be sent although it was not empty before.
    pub(crate) allow_empty: bool,
    pub(crate) compress: Compress,
    /// What the waits between tries are multiples of: a second, less in tests.
    pub(crate) wait_unit: Duration,
}

/// A destination's settings.
#[derive(Clone, Debug)]
pub(crate) struct DestinationSettings {
    pub(crate) places: Places,
    /// The address to listen on; all addresses when it is not told.
    pub(crate) listen: Option<IpAddr>,
    /// The port to listen on.
    pub(crate) port: u16,
    /// A folder in the volume that becomes the root for peers; empty means the volume's root.
    pub(crate) path: String,
    /// The name that the source logs in with, when it is told.
    pub(crate) user: Option<String>,
}

/// Reads a variable; an empty one counts as absent, as Kubernetes leaves them.
type Read<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Places {
    pub(crate) fn read(read: Read<'_>) -> Self {
        let place = |name: &str, default: &str| {
            PathBuf::from(text(read, name).unwrap_or_else(|| default.to_owned()))
        };
        Self {
            data: place("SYNCLINE_DATA_DIR", "/data"),
            block: text(read, env::BLOCK_DEVICE).map(PathBuf::from),
            keys: place("SYNCLINE_KEYS_DIR", "/keys"),
            scratch: place("TMPDIR", "/tmp"),
            report: place("TERMINATION_LOG", report::TERMINATION_MESSAGE_PATH),
        }
    }
}

impl SourceSettings {
    pub(crate) fn read(read: Read<'_>) -> Result<Self, Fault> {
        let address = text(read, env::DESTINATION_ADDRESS).ok_or_else(|| {
            invalid("DESTINATION_ADDRESS is not set; set spec.rsync.address to the destination's address".to_owned())
        })?;
        if !is_address(&address) {
            return Err(invalid(format!(
                "spec.rsync.address `{address}` is neither a host name nor an IP address"
            )));
        }
        let user = text(read, env::DESTINATION_USER).unwrap_or_else(|| DEFAULT_USER.to_owned());
        check_user(&user)?;
        let path = text(read, env::DESTINATION_PATH).unwrap_or_default();
        check_path(&path)?;
        Ok(Self {
            places: Places::read(read),
            address,
            port: number(read, env::DESTINATION_PORT, DEFAULT_PORT)?,
            user,
            path,
            last_entries: optional_number(read, env::LAST_SYNCED_ENTRIES)?,
            allow_empty: text(read, env::ALLOW_EMPTY_SOURCE).is_some_and(|value| value == "1"),
            compress: match text(read, "SYNCLINE_COMPRESS").as_deref() {
                Some("always") => Compress::Always,
                Some("never") => Compress::Never,
                _ => Compress::Auto,
            },
            wait_unit: Duration::from_millis(number(read, "SYNCLINE_WAIT_UNIT_MS", 1000)?),
        })
    }
}

impl DestinationSettings {
    pub(crate) fn read(read: Read<'_>) -> Result<Self, Fault> {
        let listen = match text(read, env::POD_IP) {
            None => None,
            Some(address) => Some(
                address
                    .parse()
                    .map_err(|_| invalid(format!("POD_IP `{address}` is not an IP address")))?,
            ),
        };
        let path = text(read, env::DESTINATION_PATH).unwrap_or_default();
        check_path(&path)?;
        let user = text(read, env::DESTINATION_USER);
        user.as_deref().map_or(Ok(()), check_user)?;
        Ok(Self {
            places: Places::read(read),
            listen,
            // Outside a pod, where an address may be shared with others.
            port: number(read, "SYNCLINE_SSH_PORT", SERVER_PORT)?,
            path,
            user,
        })
    }
}

/// The names in a path of the API, from the volume's root.
pub(crate) fn components(path: &str) -> Vec<std::ffi::OsString> {
    path.split('/')
        .filter(|name| !matches!(*name, "" | "."))
        .map(Into::into)
        .collect()
}

fn text(read: Read<'_>, name: &str) -> Option<String> {
    read(name).filter(|value| !value.is_empty())
}

fn number<N: std::str::FromStr>(read: Read<'_>, name: &str, default: N) -> Result<N, Fault> {
    optional_number(read, name).map(|number| number.unwrap_or(default))
}

fn optional_number<N: std::str::FromStr>(read: Read<'_>, name: &str) -> Result<Option<N>, Fault> {
    let parsed = text(read, name).map(|value| {
        value
            .parse()
            .map_err(|_| invalid(format!("{name} `{value}` is not a number in its range")))
    });
    parsed.transpose()
}

fn invalid(message: String) -> Fault {
    Fault::new(report::reason::INVALID_SETTINGS, message)
}

/// Host names, IPv4 and IPv6 addresses with a zone; nothing that ssh could read as an option or a pattern.
fn is_address(address: &str) -> bool {
    let admitted = |byte: u8| byte.is_ascii_alphanumeric() || b".:_-%".contains(&byte);
    address.len() <= 253 && !address.starts_with('-') && address.bytes().all(admitted)
}

fn check_user(user: &str) -> Result<(), Fault> {
    let admitted = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if user.len() <= 64 && !user.starts_with('-') && user.bytes().all(admitted) {
        Ok(())
    } else {
        Err(invalid(format!(
            "spec.rsync.sshUser `{user}` is not a login name (letters, digits, `.`, `_`, `-`)"
        )))
    }
}

fn check_path(path: &str) -> Result<(), Fault> {
    if path.split('/').any(|name| name == "..") || path.chars().any(char::is_control) {
        return Err(invalid(format!(
            "spec.rsync.path `{path}` must stay in the volume: no `..`, no control characters"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn source(pairs: &[(&str, &str)]) -> Result<SourceSettings, Fault> {
        let map: BTreeMap<String, String> = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        SourceSettings::read(&|name| map.get(name).cloned())
    }

    #[test]
    fn a_source_needs_an_address_and_has_defaults_for_the_rest() {
        assert_eq!(
            source(&[]).unwrap_err().reason,
            report::reason::INVALID_SETTINGS
        );
        let settings = source(&[("DESTINATION_ADDRESS", "host.example")]).unwrap();
        assert_eq!(
            (
                settings.port,
                settings.user.as_str(),
                settings.path.as_str()
            ),
            (22, "root", "")
        );
        assert_eq!(settings.places.data, PathBuf::from("/data"));
        assert!(!settings.allow_empty);
        assert_eq!(settings.last_entries, None);
    }

    #[test]
    fn a_source_that_held_nothing_is_another_than_one_that_was_never_sent() {
        let last = |text| {
            source(&[("DESTINATION_ADDRESS", "h"), ("LAST_SYNCED_ENTRIES", text)])
                .map(|settings| settings.last_entries)
        };
        assert_eq!(last(""), Ok(None));
        assert_eq!(last("0"), Ok(Some(0)));
        assert!(last("-1").is_err());
    }

    #[test]
    fn addresses_users_and_paths_that_ssh_or_rsync_could_misread_are_refused() {
        let refused = |name, value| source(&[("DESTINATION_ADDRESS", "h"), (name, value)]).is_err();
        for address in ["-oProxyCommand=id", "a b", "h;id", "h\nx", "[::1]"] {
            assert!(refused("DESTINATION_ADDRESS", address), "{address}");
        }
        for user in ["-l", "a b", "a@b", "$(id)"] {
            assert!(refused("DESTINATION_USER", user), "{user}");
        }
        for path in ["..", "a/../b", "a\nb"] {
            assert!(refused("DESTINATION_PATH", path), "{path}");
        }
        assert!(refused("DESTINATION_PORT", "65536"));
        assert!(!refused("DESTINATION_ADDRESS", "fe80::1%eth0"));
        assert!(!refused("DESTINATION_PATH", "/with space/x"));
    }
}
