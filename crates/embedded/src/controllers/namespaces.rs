//! Namespaces: what each has from its beginning, and their end.

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, ListParams, PostParams, Preconditions,
};
use kube::core::discovery::verbs;
use kube::discovery::{Discovery, Scope};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use tokio::sync::mpsc::UnboundedReceiver;

use super::Context;
use super::objects::{code, created, is_going, merge_status, optional};
use super::queue::{self, Seen, Trigger, watch};

const ACCOUNT: &str = "default";
const AUTHORITY: &str = "kube-root-ca.crt";
/// What a real cluster writes on that `ConfigMap`.
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

/// Why a look ended early; it is repeated.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error("a request could not be built: {0}")]
    Request(#[from] http::Error),
}

/// Looks after all namespaces until the stop. `leaving` tells the namespace of each object that is gone.
pub(super) async fn run(context: &Context, leaving: UnboundedReceiver<String>) {
    let look = move |name: String| async move { look_after(context, &name).await };
    queue::run(
        context.clock.as_ref(),
        &context.stop,
        triggers(&context.client, leaving),
        look,
    )
    .await;
}

fn triggers(client: &Client, leaving: UnboundedReceiver<String>) -> Vec<Trigger<String>> {
    let namespaces =
        watch(Api::<Namespace>::all(client.clone())).map(|seen| vec![seen.into_inner().name_any()]);
    let accounts = watch(Api::<ServiceAccount>::all(client.clone())).map(|seen| match seen {
        Seen::Gone(account) => account.namespace().into_iter().collect(),
        Seen::Present(_) => Vec::new(),
    });
    let maps = watch(Api::<ConfigMap>::all(client.clone())).map(|seen| match seen {
        Seen::Gone(map) => map.namespace().into_iter().collect(),
        Seen::Present(_) => Vec::new(),
    });
    let leaving =
        futures::stream::unfold(leaving, async |mut leaving: UnboundedReceiver<String>| {
            let name = leaving.recv().await?;
            Some((vec![name], leaving))
        });
    vec![
        namespaces.boxed(),
        accounts.boxed(),
        maps.boxed(),
        leaving.boxed(),
    ]
}

async fn look_after(context: &Context, name: &str) -> Result<(), Fault> {
    let namespaces: Api<Namespace> = Api::all(context.client.clone());
    let Some(namespace) = optional(namespaces.get(name).await)? else {
        return Ok(());
    };
    if !is_going(&namespace) {
        return furnish(context, name).await;
    }
    let remaining = clear(&context.client, name).await?;
    if remaining.is_empty() {
        return finalize(&context.client, &namespace).await;
    }
    // Each object that goes brings the namespace back here.
    let message = format!("Some resources are remaining: {}", remaining.join(", "));
    let known = namespace
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    if !known
        .into_iter()
        .any(|condition| condition.message.as_deref() == Some(message.as_str()))
    {
        let condition = json!([{
            "type": "NamespaceContentRemaining", "status": "True", "reason": "SomeResourcesRemain",
            "message": message,
            "lastTransitionTime": context.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        }]);
        optional(
            merge_status(
                &namespaces,
                name,
                &json!({ "status": { "conditions": condition } }),
            )
            .await,
        )?;
    }
    Ok(())
}

/// The account that pods run under, and the authority that signed the API server's certificate.
async fn furnish(context: &Context, namespace: &str) -> Result<(), Fault> {
    let accounts: Api<ServiceAccount> = Api::namespaced(context.client.clone(), namespace);
    if optional(accounts.get(ACCOUNT).await)?.is_none() {
        let account = serde_json::from_value(json!({ "metadata": { "name": ACCOUNT } }));
        let account: ServiceAccount = account.map_err(kube::Error::SerdeError)?;
        tolerate_end(created(
            accounts.create(&PostParams::default(), &account).await,
        ))?;
    }
    let maps: Api<ConfigMap> = Api::namespaced(context.client.clone(), namespace);
    if optional(maps.get(AUTHORITY).await)?.is_none() {
        let annotations = json!({ "kubernetes.io/description": DESCRIPTION });
        let map = json!({
            "metadata": { "name": AUTHORITY, "annotations": annotations },
            "data": { "ca.crt": context.authority },
        });
        let map: ConfigMap = serde_json::from_value(map).map_err(kube::Error::SerdeError)?;
        tolerate_end(created(maps.create(&PostParams::default(), &map).await))?;
    }
    Ok(())
}

/// A namespace that began to end, or ended, needs nothing any more.
fn tolerate_end(result: kube::Result<()>) -> kube::Result<()> {
    match result {
        Err(error) if matches!(code(&error), Some(403 | 404)) => Ok(()),
        other => other,
    }
}

/// Deletes everything in a namespace; gives what is still there, as kinds with counts.
async fn clear(client: &Client, namespace: &str) -> Result<Vec<String>, Fault> {
    let mut remaining = Vec::new();
    for resource in namespaced_kinds(client).await? {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
        let objects = optional(api.list(&ListParams::default()).await)?;
        for object in objects.iter().flatten().filter(|object| !is_going(*object)) {
            let only_this = Preconditions {
                uid: object.uid(),
                resource_version: None,
            };
            let how = DeleteParams {
                preconditions: Some(only_this),
                ..DeleteParams::background()
            };
            match api.delete(&object.name_any(), &how).await {
                Err(error) if !matches!(code(&error), Some(404 | 409)) => return Err(error.into()),
                _ => {}
            }
        }
        let left =
            optional(api.list(&ListParams::default()).await)?.map_or(0, |list| list.items.len());
        if left > 0 {
            remaining.push(format!(
                "{}.{} has {left} resource instances",
                resource.plural, resource.group
            ));
        }
    }
    Ok(remaining)
}

/// Kinds whose objects live in namespaces and can be deleted; Events last, because deletions make some.
async fn namespaced_kinds(client: &Client) -> Result<Vec<ApiResource>, Fault> {
    let discovery = Discovery::new(client.clone()).run().await?;
    let mut kinds: Vec<ApiResource> = discovery
        .groups()
        .flat_map(kube::discovery::ApiGroup::recommended_resources)
        .filter(|(_, facts)| {
            facts.scope == Scope::Namespaced
                && facts.supports_operation(verbs::LIST)
                && facts.supports_operation(verbs::DELETE)
        })
        .map(|(resource, _)| resource)
        .collect();
    kinds.sort_by_key(|resource| resource.kind == "Event");
    Ok(kinds)
}

/// Gives the namespace up; it is gone with that.
async fn finalize(client: &Client, namespace: &Namespace) -> Result<(), Fault> {
    let mut emptied = namespace.clone();
    if let Some(spec) = &mut emptied.spec {
        spec.finalizers = None;
    }
    let body = serde_json::to_vec(&json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": emptied.metadata, "spec": { "finalizers": [] },
    }))
    .map_err(kube::Error::SerdeError)?;
    let path = format!("/api/v1/namespaces/{}/finalize", namespace.name_any());
    let request = http::Request::put(path)
        .header("content-type", "application/json")
        .body(body)?;
    match client.request::<serde_json::Value>(request).await {
        Err(error) if !matches!(code(&error), Some(404)) => Err(error.into()),
        _ => Ok(()),
    }
}
