//! From a target to a client.

use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};

use crate::documents::complaint;
use crate::failure::{Failure, Kind};
use crate::settings::Target;

/// A client for the target's cluster. Nothing is asked of the cluster yet.
pub(crate) async fn connect(target: &Target) -> Result<Client, Failure> {
    let kubeconfig = match target.kubeconfig() {
        Some(path) if !path.exists() => return Err(absent(target, &path.display().to_string())),
        Some(path) => Kubeconfig::read_from(&path)
            .map_err(|error| unreadable(&error, &path.display().to_string()))?,
        None => Kubeconfig::from_env()
            .map_err(|error| unreadable(&error, "$KUBECONFIG"))?
            .ok_or_else(|| absent(target, "$KUBECONFIG"))?,
    };
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|error| {
            Failure::from(
                anyhow::Error::from(error).context("the kubeconfig does not name a usable cluster"),
            )
        })?;
    Ok(Client::try_from(config)?)
}

fn absent(target: &Target, path: &str) -> Failure {
    let failure =
        Failure::new(format!("no cluster is known: there is no {path}")).of_kind(Kind::Unreachable);
    match target {
        Target::Data(_) => failure.hint("`syncline up` starts a cluster there; --data DIR or --kubeconfig FILE names another one"),
        _ => failure.hint("name a kubeconfig that exists with --kubeconfig FILE"),
    }
}

fn unreadable(error: &KubeconfigError, path: &str) -> Failure {
    let why = match error {
        // The library's own words hold the path in two pairs of quotes.
        KubeconfigError::ReadConfig(why, file) if path.starts_with('$') => {
            format!("{}: {why}", file.display())
        }
        KubeconfigError::ReadConfig(why, _) => why.to_string(),
        KubeconfigError::Parse(why) => complaint(why, path),
        other => other.to_string(),
    };
    Failure::from(anyhow::Error::msg(why).context(format!("cannot read the kubeconfig {path}")))
        .hint("name a kubeconfig file with --kubeconfig FILE, or an embedded cluster's folder with --data DIR")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_that_cannot_be_read_is_named_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display().to_string();
        let failure = unreadable(&Kubeconfig::read_from(folder.path()).unwrap_err(), &path);
        let told = failure.causes().join("\n");
        assert_eq!(told.matches(&path).count(), 1, "{told}");
        assert!(!told.contains('"'), "{told}");
        assert!(failure.hint_text().is_some());
    }
}
