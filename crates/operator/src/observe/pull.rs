//! The Secrets that movers' images are pulled with: the originals in the operator's own namespace, and their copies beside
//! the movers.

use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use syncline_api::names;

use super::read::{Error, Reader};
use crate::plan::Settings;
use crate::subject::Subject;

/// A Secret that movers' images are pulled with, and its copy in the resource's namespace.
#[derive(Clone, Debug, PartialEq)]
pub struct PullSecret {
    /// In the operator's own namespace.
    pub original: Secret,
    /// In the resource's, if it is there already.
    pub copy: Option<Secret>,
}

/// Reads both. An original that is missing is said in the log when a run is about to start, and no more: images may be had
/// without it.
pub(super) async fn pull_secrets(
    client: &Client,
    subject: &Subject,
    settings: &Settings,
) -> Result<Vec<PullSecret>, Error> {
    let Some(home) = &settings.pull_secrets.namespace else {
        return Ok(Vec::new());
    };
    let (home, here) = (
        Reader::new(client, home),
        Reader::new(client, &subject.key.namespace),
    );
    let mut found = Vec::new();
    for name in &settings.pull_secrets.names {
        match home.get::<Secret>(name).await? {
            Some(original) => found.push(PullSecret {
                original,
                copy: here.get(&names::pull_secret(name)).await?,
            }),
            None if subject.state.last_sync_start_time.is_some() => {
                tracing::warn!(secret = %name, resource = %subject.key,
                    "the pull secret does not exist in the operator's namespace; images are pulled without it");
            }
            None => {}
        }
    }
    Ok(found)
}
