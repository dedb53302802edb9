//! Which proxy stands between a command and the API server, by the rules of kubectl.
//!
//! A `proxy-url` in the kubeconfig always holds. The environment's proxy does not hold for this machine itself, nor for what
//! `NO_PROXY` excepts. The library asks `NO_PROXY` about the proxy's own address instead, so its choice is not used.

use std::net::IpAddr;

/// What the environment says about proxies.
#[derive(Clone, Debug, Default)]
pub(crate) struct Variables {
    /// `HTTPS_PROXY` or `https_proxy`.
    pub(crate) https: Option<String>,
    /// `NO_PROXY` or `no_proxy`.
    pub(crate) none: Option<String>,
}

impl Variables {
    /// Those of this process; empty ones count as absent.
    pub(crate) fn of_process() -> Self {
        let first = |names: [&str; 2]| {
            let values = names
                .into_iter()
                .filter_map(|name| std::env::var(name).ok());
            values.into_iter().find(|value| !value.is_empty())
        };
        Self {
            https: first(["HTTPS_PROXY", "https_proxy"]),
            none: first(["NO_PROXY", "no_proxy"]),
        }
    }
}

/// The URL of the proxy to the API server at `host` and `port`; `named` is the kubeconfig's `proxy-url`.
pub(crate) fn proxy(
    named: Option<&str>,
    (host, port): (&str, u16),
    variables: &Variables,
) -> Option<String> {
    if let Some(named) = named.filter(|url| !url.is_empty()) {
        return Some(named.to_owned());
    }
    let url = variables.https.as_deref()?;
    let none = variables.none.as_deref().unwrap_or_default();
    if is_this_machine(host) || is_excepted(none, host, port) {
        return None;
    }
    // A proxy is often given as HOST:PORT.
    Some(if url.contains("://") {
        url.to_owned()
    } else {
        format!("http://{url}")
    })
}

fn is_this_machine(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || ip(host).is_some_and(|ip| ip.is_loopback())
}

fn ip(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .ok()
}

/// Whether `NO_PROXY` names the host: itself, its domain, or the block of addresses it is of, each with or without a port.
fn is_excepted(none: &str, host: &str, port: u16) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    none.split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .any(|entry| {
            if entry == "*" || is_in_block(entry, &host) {
                return true;
            }
            let (name, of_port) = with_port(entry);
            of_port.is_none_or(|wanted| wanted == port) && names(name, &host)
        })
}

/// Divides `NAME:PORT`; an IPv6 address stands in brackets then.
fn with_port(entry: &str) -> (&str, Option<u16>) {
    if entry.parse::<IpAddr>().is_ok() {
        return (entry, None);
    }
    match entry.rsplit_once(':') {
        Some((name, port)) => match port.parse() {
            Ok(port) => (name, Some(port)),
            Err(_) => (entry, None),
        },
        None => (entry, None),
    }
}

/// `example.org` names itself and what is under it, `.example.org` and `*.example.org` only the latter.
fn names(entry: &str, host: &str) -> bool {
    if let Some(address) = ip(entry) {
        return ip(host) == Some(address);
    }
    let entry = entry.to_ascii_lowercase();
    let entry = entry.strip_prefix('*').unwrap_or(&entry);
    match entry.strip_prefix('.') {
        Some(_) => host.ends_with(entry),
        None => {
            host == entry
                || host
                    .strip_suffix(entry)
                    .is_some_and(|rest| rest.ends_with('.'))
        }
    }
}

fn is_in_block(entry: &str, host: &str) -> bool {
    let Some((base, length)) = entry.split_once('/') else {
        return false;
    };
    let (Some(base), Some(host), Ok(length)) = (ip(base), ip(host), length.parse::<u32>()) else {
        return false;
    };
    let (differing, width) = match (base, host) {
        (IpAddr::V4(base), IpAddr::V4(host)) => (u128::from(base.to_bits() ^ host.to_bits()), 32),
        (IpAddr::V6(base), IpAddr::V6(host)) => (base.to_bits() ^ host.to_bits(), 128),
        _ => return false,
    };
    // A block of length 0 holds every address; no shift by the whole width is needed for the others.
    length == 0 || (length <= width && differing >> (width - length) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_environment(server: (&str, u16), none: &str) -> Option<String> {
        let variables = Variables {
            https: Some("http://proxy.example:3128".to_owned()),
            none: Some(none.to_owned()),
        };
        proxy(None, server, &variables)
    }

    #[test]
    fn the_environments_proxy_is_used_but_for_this_machine() {
        assert_eq!(
            from_environment(("api.example", 6443), ""),
            Some("http://proxy.example:3128".to_owned())
        );
        for host in ["localhost", "127.0.0.1", "127.8.8.8", "[::1]"] {
            assert_eq!(from_environment((host, 6443), ""), None, "{host}");
        }
        let bare = Variables {
            https: Some("proxy.example:3128".to_owned()),
            none: None,
        };
        assert_eq!(
            proxy(None, ("api.example", 443), &bare),
            Some("http://proxy.example:3128".to_owned())
        );
        assert_eq!(
            proxy(None, ("api.example", 443), &Variables::default()),
            None
        );
    }

    #[test]
    fn a_proxy_of_the_kubeconfig_holds_for_every_host() {
        let variables = Variables {
            https: Some("http://other.example:1".to_owned()),
            none: Some("*".to_owned()),
        };
        let named = Some("http://named.example:3128");
        assert_eq!(
            proxy(named, ("127.0.0.1", 6443), &variables).as_deref(),
            named
        );
    }

    #[test]
    fn no_proxy_names_hosts_domains_addresses_blocks_and_ports() {
        let excepted = |none: &str, host: &str| from_environment((host, 6443), none).is_none();
        for (none, host) in [
            ("*", "api.example"),
            ("other, api.example", "API.example"),
            ("example", "api.example"),
            (".example", "api.example"),
            ("*.example", "api.example"),
            ("api.example:6443", "api.example"),
            ("10.0.0.1", "10.0.0.1"),
            ("10.0.0.1:6443", "10.0.0.1"),
            ("10.0.0.0/8", "10.200.0.1"),
            ("0.0.0.0/0", "10.200.0.1"),
            ("10.0.0.1/32", "10.0.0.1"),
            ("fd00::/8", "[fd00::1]"),
            ("fd00::1", "[fd00::1]"),
            ("[fd00::1]:6443", "[fd00::1]"),
        ] {
            assert!(excepted(none, host), "{none} names {host}");
        }
        for (none, host) in [
            ("", "api.example"),
            (" , ", "api.example"),
            (".api.example", "api.example"),
            ("*.api.example", "api.example"),
            ("pi.example", "api.example"),
            ("api.example:443", "api.example"),
            ("10.0.0.1", "10.0.0.10"),
            ("10.0.0.0/9", "10.200.0.1"),
            ("10.0.0.0/33", "10.0.0.0"),
            ("fd00::/8", "10.0.0.1"),
            ("proxy.example", "api.example"),
        ] {
            assert!(!excepted(none, host), "{none} does not name {host}");
        }
    }
}
