//! From a target to a client.

use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::failure::{Failure, Kind};
use crate::settings::Target;

/// A client for the target's cluster. Nothing is asked of the cluster yet.
pub(crate) async fn connect(target: &Target) -> Result<Client, Failure> {
    let kubeconfig = match target.kubeconfig() {
        Some(path) if !path.exists() => return Err(absent(target, &path.display().to_string())),
        Some(path) => Kubeconfig::read_from(&path)
            .map_err(|error| unreadable(error, &path.display().to_string()))?,
        None => Kubeconfig::from_env()
            .map_err(|error| unreadable(error, "$KUBECONFIG"))?
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

fn unreadable(error: kube::config::KubeconfigError, path: &str) -> Failure {
    Failure::from(anyhow::Error::from(error).context(format!("cannot read the kubeconfig {path}")))
}
