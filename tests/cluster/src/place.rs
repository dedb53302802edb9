//! Where a cluster lives: its folder, and the names and addresses that follow from it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest as _, Sha256};

use crate::shell;

/// In a folder that this program made; no other folder is ever removed.
const MARK: &str = "syncline-test-cluster";
/// RFC 2544's addresses for laboratories, 198.18.0.0/15: nothing else uses them.
const FIRST_ADDRESS: u32 = 0xC612_0000;
/// How many pairs of addresses (subnets of /30) lie in there.
const SUBNETS: u32 = 1 << 15;
/// Folders that the cluster covers with its own in its mount namespace.
const COVERED: [&str; 4] = ["/run", "/var/lib", "/var/log", "/sys"];

/// A cluster's folder and what is derived from it, so that two clusters never meet.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Absolute.
    pub(crate) folder: PathBuf,
    /// Eight hexadecimal digits.
    pub(crate) id: String,
}

/// The two ends of the cluster's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) host: Ipv4Addr,
    /// Where the API server listens.
    pub(crate) node: Ipv4Addr,
}

impl Place {
    /// The folder of `$SYNCLINE_CLUSTER_DIR`, else `run` in the cache.
    pub(crate) fn of_environment() -> Result<Self> {
        let folder = match std::env::var_os("SYNCLINE_CLUSTER_DIR") {
            Some(folder) => PathBuf::from(folder),
            None => cache()?.join("run"),
        };
        Self::at(&folder)
    }

    pub(crate) fn at(folder: &Path) -> Result<Self> {
        let folder = std::path::absolute(folder)
            .with_context(|| format!("{} is no folder", folder.display()))?;
        if let Some(covered) = COVERED.iter().find(|covered| folder.starts_with(covered)) {
            bail!(
                "{} lies in {covered}, of which the cluster has its own: set SYNCLINE_CLUSTER_DIR to another folder",
                folder.display()
            );
        }
        let id = hex(&Sha256::digest(folder.as_os_str().as_encoded_bytes()))
            .chars()
            .take(8)
            .collect();
        Ok(Self { folder, id })
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The same as text, for configuration files.
    pub(crate) fn text(&self, name: &str) -> String {
        self.file(name).to_string_lossy().into_owned()
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.file("kubeconfig")
    }

    /// The log of one process.
    pub(crate) fn log(&self, process: &str) -> PathBuf {
        self.folder.join("logs").join(format!("{process}.log"))
    }

    /// The host's end of the cluster's link.
    pub(crate) fn link(&self) -> String {
        format!("sync{}", self.id)
    }

    /// The cluster's own group below each hierarchy of control groups; all its processes are in it.
    pub(crate) fn cgroup(&self) -> String {
        format!("syncline-{}", self.id)
    }

    /// Makes the folder; refuses one that holds something else.
    pub(crate) fn make(&self) -> Result<()> {
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("cannot make {}", self.folder.display()))?;
        let foreign = fs::read_dir(&self.folder)?
            .filter_map(Result::ok)
            .any(|entry| entry.file_name() != "lock");
        ensure!(
            self.is_ours() || !foreign,
            "{} holds something that is no cluster: set SYNCLINE_CLUSTER_DIR to an empty folder",
            self.folder.display()
        );
        fs::write(self.file(MARK), "made by test-cluster\n")?;
        for name in ["logs", "pki", "config"] {
            fs::create_dir_all(self.file(name))?;
        }
        Ok(())
    }

    pub(crate) fn is_ours(&self) -> bool {
        self.file(MARK).exists()
    }

    /// Keeps other runs of this program away from the cluster until the file is dropped.
    pub(crate) fn lock(&self) -> Result<File> {
        let path = self.file("lock");
        loop {
            fs::create_dir_all(&self.folder)
                .with_context(|| format!("cannot make {}", self.folder.display()))?;
            let file =
                File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
            flock(&file, FlockOperation::LockExclusive)
                .with_context(|| format!("cannot lock {}", path.display()))?;
            // `down` removes the file that it has locked: then a waiter has locked nothing.
            if fs::metadata(&path)
                .is_ok_and(|now| file.metadata().is_ok_and(|had| had.ino() == now.ino()))
            {
                return Ok(file);
            }
        }
    }

    /// Addresses that nothing on this machine uses; the same ones each time while they are free.
    pub(crate) fn free_addresses(&self) -> Result<Addresses> {
        let taken = shell::output(&mut shell::command(&["ip", "-o", "-4", "addr", "show"]))?
            + &shell::output(&mut shell::command(&["ip", "-4", "route", "show"]))?;
        let first = u32::from_str_radix(&self.id, 16).unwrap_or(0);
        (0..SUBNETS)
            .map(|offset| addresses(first.wrapping_add(offset) % SUBNETS))
            .find(|pair| !taken.contains(&subnet(*pair)))
            .context("all addresses of 198.18.0.0/15 are in use on this machine")
    }
}

/// The pair of one subnet.
fn addresses(subnet: u32) -> Addresses {
    let base = FIRST_ADDRESS + subnet * 4;
    Addresses {
        host: Ipv4Addr::from(base + 1),
        node: Ipv4Addr::from(base + 2),
    }
}

/// As `ip route` shows it.
pub(crate) fn subnet(pair: Addresses) -> String {
    format!("{}/30", Ipv4Addr::from(u32::from(pair.host) - 1))
}

/// Where built programs and the default cluster are kept: `$SYNCLINE_CACHE/cluster`, else `$XDG_CACHE_HOME/syncline/cluster`,
/// else `~/.cache/syncline/cluster`.
pub(crate) fn cache() -> Result<PathBuf> {
    cache_of(|name| std::env::var_os(name))
}

/// A variable that is empty is one that is not set, as for the scripts beside this program.
fn cache_of(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf> {
    let folder = |name| {
        variable(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let root = folder("SYNCLINE_CACHE")
        .or_else(|| Some(folder("XDG_CACHE_HOME")?.join("syncline")))
        .or_else(|| Some(folder("HOME")?.join(".cache/syncline")));
    root.map(|root| root.join("cluster"))
        .context("neither HOME nor SYNCLINE_CACHE is set: set one of them")
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_where_the_scripts_have_theirs() {
        let cache = |set: &[(&str, &str)]| {
            cache_of(|name| {
                let found = set.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| OsString::from(value))
            })
            .ok()
        };
        let [home, xdg, own] = [
            ("HOME", "/home/ada"),
            ("XDG_CACHE_HOME", "/cache"),
            ("SYNCLINE_CACHE", "/own"),
        ];
        let path = |text: &str| Some(PathBuf::from(text));
        assert_eq!(cache(&[home]), path("/home/ada/.cache/syncline/cluster"));
        assert_eq!(cache(&[home, xdg]), path("/cache/syncline/cluster"));
        assert_eq!(cache(&[home, xdg, own]), path("/own/cluster"));
        assert_eq!(
            cache(&[home, ("XDG_CACHE_HOME", "")]),
            path("/home/ada/.cache/syncline/cluster")
        );
        assert_eq!(cache(&[]), None);
    }

    #[test]
    fn two_folders_give_two_clusters() {
        let one = Place::at(Path::new("/tmp/one")).unwrap();
        let two = Place::at(Path::new("/tmp/two")).unwrap();
        assert_ne!(one.id, two.id);
        assert_ne!(one.link(), two.link());
        assert_ne!(one.cgroup(), two.cgroup());
    }

    #[test]
    fn a_links_name_fits_the_kernel() {
        let place = Place::at(Path::new("/tmp/one")).unwrap();
        assert!(place.link().len() <= 15, "{}", place.link());
    }

    #[test]
    fn a_pair_of_addresses_lies_in_its_subnet() {
        let pair = addresses(5);
        assert_eq!(pair.host, Ipv4Addr::new(198, 18, 0, 21));
        assert_eq!(pair.node, Ipv4Addr::new(198, 18, 0, 22));
        assert_eq!(subnet(pair), "198.18.0.20/30");
        assert_eq!(
            addresses(SUBNETS - 1).node,
            Ipv4Addr::new(198, 19, 255, 254)
        );
    }

    #[test]
    fn a_folder_that_the_cluster_would_cover_is_refused() {
        let error = Place::at(Path::new("/run/cluster")).unwrap_err();
        assert!(
            error.to_string().contains("SYNCLINE_CLUSTER_DIR"),
            "{error}"
        );
    }

    #[test]
    fn a_folder_with_something_else_in_it_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.txt"), "years of work").unwrap();
        let place = Place::at(folder.path()).unwrap();
        assert!(place.make().is_err());
        assert!(!place.is_ours());
    }
}
