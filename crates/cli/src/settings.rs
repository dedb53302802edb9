//! From arguments and environment to what they mean. Pure, but for reading the environment once.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::args::Global;
use crate::failure::Failure;

/// Name of the kubeconfig in a data folder.
const KUBECONFIG: &str = "kubeconfig";
/// Name of the embedded cluster's database in a data folder.
const DATABASE: &str = "cluster.db";

/// The environment variables that matter.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    /// `KUBECONFIG`: files, separated by colons.
    pub(crate) kubeconfig: Option<OsString>,
    /// `XDG_DATA_HOME`.
    pub(crate) data_home: Option<PathBuf>,
    /// `HOME`.
    pub(crate) home: Option<PathBuf>,
    /// `SYNCLINE_LOG`: what to log, in the form of `RUST_LOG`.
    pub(crate) log: Option<String>,
}

impl Environment {
    /// Reads the process's environment; empty variables count as absent.
    pub(crate) fn of_process() -> Self {
        let read = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            kubeconfig: read("KUBECONFIG"),
            data_home: read("XDG_DATA_HOME").map(PathBuf::from),
            home: read("HOME").map(PathBuf::from),
            log: read("SYNCLINE_LOG").and_then(|value| value.into_string().ok()),
        }
    }
}

/// The cluster that a command talks to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The one of this kubeconfig.
    Kubeconfig(PathBuf),
    /// The embedded one of this data folder.
    Data(PathBuf),
    /// The one of this `$KUBECONFIG`, merged as kubectl merges it.
    Environment(OsString),
}

impl Target {
    /// The kubeconfig file, if it is a single one.
    pub(crate) fn kubeconfig(&self) -> Option<PathBuf> {
        match self {
            Self::Kubeconfig(path) => Some(path.clone()),
            Self::Data(folder) => Some(folder.join(KUBECONFIG)),
            Self::Environment(_) => None,
        }
    }

    /// The data folder of an embedded cluster, when that is where the kubeconfig lies.
    pub(crate) fn data_folder(&self) -> Option<PathBuf> {
        let files = match self {
            Self::Kubeconfig(path) => vec![path.clone()],
            Self::Data(folder) => return Some(folder.clone()),
            Self::Environment(list) => std::env::split_paths(list).collect(),
        };
        let mut folders = files
            .into_iter()
            .filter_map(|file| Some(file.parent()?.to_owned()));
        folders.find(|folder| folder.join(DATABASE).exists())
    }
}

/// Which cluster is meant: what is said on the command line comes first (`--kubeconfig`, then `--data`), then
/// `$KUBECONFIG`, then the embedded cluster of the default folder; where there is none, kubectl's own `~/.kube/config`.
pub(crate) fn target(global: &Global, environment: &Environment) -> Result<Target, Failure> {
    if let Some(path) = &global.kubeconfig {
        return Ok(Target::Kubeconfig(path.clone()));
    }
    if let Some(folder) = &global.data {
        return Ok(Target::Data(folder.clone()));
    }
    if let Some(list) = &environment.kubeconfig {
        return Ok(Target::Environment(list.clone()));
    }
    let folder = data_folder(global, environment)?;
    let of_kubectl = environment
        .home
        .as_ref()
        .map(|home| home.join(".kube/config"))
        .filter(|file| file.exists() && !folder.join(KUBECONFIG).exists());
    Ok(of_kubectl.map_or(Target::Data(folder), Target::Kubeconfig))
}

/// The data folder: `--data`, else `$XDG_DATA_HOME/syncline`, else `~/.local/share/syncline`.
pub(crate) fn data_folder(global: &Global, environment: &Environment) -> Result<PathBuf, Failure> {
    if let Some(folder) = &global.data {
        return Ok(folder.clone());
    }
    // The base directory specification tells to ignore a relative path.
    if let Some(base) = environment
        .data_home
        .as_ref()
        .filter(|base| base.is_absolute())
    {
        return Ok(base.join("syncline"));
    }
    environment
        .home
        .as_ref()
        .map(|home| home.join(".local/share/syncline"))
        .ok_or_else(|| {
            Failure::new("there is no data folder: neither HOME nor XDG_DATA_HOME is set")
                .hint("name one with --data DIR")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        Environment {
            home: Some("/home/ann".into()),
            ..Environment::default()
        }
    }

    #[test]
    fn the_default_is_the_embedded_cluster_in_the_home_folder() {
        let target = target(&Global::default(), &environment()).unwrap();
        assert_eq!(
            target,
            Target::Data("/home/ann/.local/share/syncline".into())
        );
        assert_eq!(
            target.kubeconfig(),
            Some("/home/ann/.local/share/syncline/kubeconfig".into())
        );
    }

    #[test]
    fn without_an_embedded_cluster_kubectls_own_kubeconfig_is_taken() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join(".kube/config");
        std::fs::create_dir(home.path().join(".kube")).unwrap();
        std::fs::write(&file, "").unwrap();
        let environment = Environment {
            home: Some(home.path().to_owned()),
            ..Environment::default()
        };
        let found = || target(&Global::default(), &environment).unwrap();
        assert_eq!(found(), Target::Kubeconfig(file));
        let data = home.path().join(".local/share/syncline");
        std::fs::create_dir_all(&data).unwrap();
        std::fs::write(data.join(KUBECONFIG), "").unwrap();
        assert_eq!(found(), Target::Data(data));
    }

    #[test]
    fn the_data_home_of_the_desktop_is_respected_unless_relative() {
        let with = |base: &str| Environment {
            data_home: Some(base.into()),
            ..environment()
        };
        assert_eq!(
            data_folder(&Global::default(), &with("/data")).unwrap(),
            PathBuf::from("/data/syncline")
        );
        assert_eq!(
            data_folder(&Global::default(), &with("data")).unwrap(),
            PathBuf::from("/home/ann/.local/share/syncline")
        );
    }

    #[test]
    fn the_command_line_wins_over_the_environment() {
        let environment = Environment {
            kubeconfig: Some("/etc/kube".into()),
            ..environment()
        };
        assert_eq!(
            target(&Global::default(), &environment).unwrap(),
            Target::Environment("/etc/kube".into())
        );
        let data = Global {
            data: Some("/d".into()),
            ..Global::default()
        };
        assert_eq!(
            target(&data, &environment).unwrap(),
            Target::Data("/d".into())
        );
        let both = Global {
            kubeconfig: Some("/k".into()),
            ..data
        };
        assert_eq!(
            target(&both, &environment).unwrap(),
            Target::Kubeconfig("/k".into())
        );
    }

    #[test]
    fn without_a_home_the_cure_is_named() {
        let failure = target(&Global::default(), &Environment::default()).unwrap_err();
        assert_eq!(failure.hint_text(), Some("name one with --data DIR"));
    }
}
