//! From a target to a client.

use kube::Client;
use kube::config::{Cluster, KubeConfigOptions, Kubeconfig, KubeconfigError};

use crate::documents::complaint;
use crate::failure::{Failure, Kind};
use crate::proxies::{self, Variables};
use crate::settings::Target;

/// Where an API server listens whose URL names no port.
const HTTPS_PORT: u16 = 443;

/// A client for the target's cluster. Nothing is asked of the cluster yet.
pub(crate) async fn connect(target: &Target) -> Result<Client, Failure> {
    let kubeconfig = read(target)?;
    let named = current(&kubeconfig).and_then(|cluster| cluster.proxy_url.clone());
    let mut config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .map_err(|error| {
                Failure::from(
                    anyhow::Error::from(error)
                        .context("the kubeconfig does not name a usable cluster"),
                )
            })?;
    let server = &config.cluster_url;
    let port = server.port_u16().unwrap_or(HTTPS_PORT);
    let server = (server.host().unwrap_or_default(), port);
    config.proxy_url = match proxies::proxy(named.as_deref(), server, &Variables::of_process()) {
        Some(url) => Some(url.parse().map_err(|error| {
            Failure::from(anyhow::Error::new(error).context(format!("the proxy {url:?} is no URL")))
                .hint("correct HTTPS_PROXY, or proxy-url in the kubeconfig: http://HOST:PORT")
        })?),
        None => None,
    };
    Ok(Client::try_from(config)?)
}

/// Says of a failure which cluster it is that does not answer, and which file names it.
pub(crate) fn located(failure: Failure, target: &Target) -> Failure {
    match place(target) {
        Some(place) => failure.of_cluster(&place),
        None => failure,
    }
}

/// The cluster's address and the file that names it; `None` when none can be read.
pub(crate) fn place(target: &Target) -> Option<String> {
    let file = target.kubeconfig().map_or_else(
        || "$KUBECONFIG".to_owned(),
        |path| path.display().to_string(),
    );
    let kubeconfig = read(target).ok()?;
    let server = current(&kubeconfig)?.server.as_deref()?;
    Some(format!("{server} (kubeconfig {file})"))
}

/// ` in namespace NAME on SERVER (kubeconfig FILE)`, for answers that say that nothing is there: whoever asks the wrong cluster
/// has to see it.
pub(crate) fn within(namespace: Option<&str>, target: &Target) -> String {
    let namespace = namespace.map(|name| format!(" in namespace {name}"));
    let place = place(target).map(|place| format!(" on {place}"));
    [namespace, place].into_iter().flatten().collect()
}

fn read(target: &Target) -> Result<Kubeconfig, Failure> {
    match target.kubeconfig() {
        Some(path) if !path.exists() => Err(absent(target, &path.display().to_string())),
        Some(path) => Kubeconfig::read_from(&path)
            .map_err(|error| unreadable(&error, &path.display().to_string())),
        None => Kubeconfig::from_env()
            .map_err(|error| unreadable(&error, "$KUBECONFIG"))?
            .ok_or_else(|| absent(target, "$KUBECONFIG")),
    }
}

/// The current context's cluster.
fn current(kubeconfig: &Kubeconfig) -> Option<&Cluster> {
    let current = kubeconfig.current_context.as_ref()?;
    let contexts = &mut kubeconfig.contexts.iter();
    let context = contexts.find(|context| &context.name == current)?;
    let cluster = &context.context.as_ref()?.cluster;
    let clusters = &mut kubeconfig.clusters.iter();
    let found = clusters.find(|found| &found.name == cluster)?;
    found.cluster.as_ref()
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
