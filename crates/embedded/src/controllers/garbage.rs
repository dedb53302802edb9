//! Garbage: objects whose owners are gone, and owners that wait for their dependents.
//!
//! Every kind that can be listed, watched and deleted is watched, kinds of definitions made at run time included. The
//! watches only name what may need a look; whether an owner is there, and what depends on it, is asked of the API
//! server at that moment, so that no late watch event costs an object.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use futures::StreamExt as _;
use futures::stream::BoxStream;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, Preconditions};
use kube::core::discovery::verbs;
use kube::discovery::{Discovery, Scope};
use kube::runtime::watcher::Event;
use kube::{Client, ResourceExt as _};
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;

use super::Context;
use super::objects::{code, is_going, merge, optional, remove_finalizers};
use super::queue::{self, Trigger, watch, watch_dynamic};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// `plural.group/version`, which orders and names a kind.
type KindName = String;

/// One object to be looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Subject {
    kind: KindName,
    namespace: String,
    name: String,
}

/// A kind that is served now.
#[derive(Clone)]
struct Served {
    resource: ApiResource,
    namespaced: bool,
    watching: CancellationToken,
}

/// What depends on which owner, as the watches told; used only to know whom to look at.
#[derive(Default)]
struct Graph {
    served: BTreeMap<KindName, Served>,
    /// Owner's uid → its dependents.
    dependents: BTreeMap<String, BTreeSet<Subject>>,
    /// Objects that wait for their dependents, by uid.
    waiting: BTreeMap<String, Subject>,
}

struct Collector {
    client: Client,
    stop: CancellationToken,
    graph: Mutex<Graph>,
    found: UnboundedSender<Subject>,
    gone: UnboundedSender<String>,
}

/// Looks after owners and dependents until the stop. `gone` is told the namespace of each object that is gone.
pub(super) async fn run(context: &Context, gone: UnboundedSender<String>) {
    let (found, finding) = unbounded_channel();
    let collector = Collector {
        client: context.client.clone(),
        stop: context.stop.clone(),
        graph: Mutex::default(),
        found,
        gone,
    };
    let collector = &collector;
    let (fresh, arriving) = unbounded_channel();
    let look = move |subject: Subject| async move { collector.look_after(&subject).await };
    let discover = {
        let definitions =
            watch(Api::<CustomResourceDefinition>::all(context.client.clone())).map(|_| vec![()]);
        let first = futures::stream::once(async { vec![()] });
        let triggers: Vec<Trigger<()>> = vec![definitions.boxed(), first.boxed()];
        let look = move |()| {
            let fresh = fresh.clone();
            async move { collector.discover(&fresh).await }
        };
        queue::run(context.clock.as_ref(), &context.stop, triggers, look)
    };
    tokio::join!(
        discover,
        collector.follow(arriving),
        queue::run(
            context.clock.as_ref(),
            &context.stop,
            vec![subjects(finding)],
            look
        ),
    );
}

fn subjects(finding: UnboundedReceiver<Subject>) -> Trigger<Subject> {
    futures::stream::unfold(finding, async |mut finding: UnboundedReceiver<Subject>| {
        let subject = finding.recv().await?;
        Some((vec![subject], finding))
    })
    .boxed()
}

fn kind_name(resource: &ApiResource) -> KindName {
    format!(
        "{}.{}/{}",
        resource.plural, resource.group, resource.version
    )
}

type Changes = BoxStream<'static, (KindName, Event<DynamicObject>)>;

impl Collector {
    fn lock(&self) -> std::sync::MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to watch kinds that are new, and ends it for those that are not served any more.
    async fn discover(&self, fresh: &UnboundedSender<Changes>) -> Result<(), kube::Error> {
        let discovery = Discovery::new(self.client.clone()).run().await?;
        let wanted = discovery
            .groups()
            .flat_map(kube::discovery::ApiGroup::recommended_resources)
            .filter(|(resource, facts)| {
                let can = |verb| facts.supports_operation(verb);
                // Events own nothing, are owned by nothing, and are many.
                resource.kind != "Event"
                    && can(verbs::LIST)
                    && can(verbs::WATCH)
                    && can(verbs::DELETE)
            });
        let mut graph = self.lock();
        let mut present = BTreeSet::new();
        let mut fresh_kinds = Vec::new();
        for (resource, facts) in wanted {
            let name = kind_name(&resource);
            present.insert(name.clone());
            if graph.served.contains_key(&name) {
                continue;
            }
            let watching = self.stop.child_token();
            let label = name.clone();
            let changes = watch_dynamic(self.client.clone(), &resource)
                .map(move |event| (label.clone(), event))
                .take_until(watching.clone().cancelled_owned())
                .boxed();
            graph.served.insert(
                name,
                Served {
                    resource,
                    namespaced: facts.scope == Scope::Namespaced,
                    watching,
                },
            );
            fresh_kinds.push(changes);
        }
        if !fresh_kinds.is_empty() {
            // Owners of these kinds could not be judged before.
            for dependent in graph.dependents.values().flatten() {
                let _ = self.found.send(dependent.clone());
            }
        }
        for changes in fresh_kinds {
            let _ = fresh.send(changes);
        }
        graph.served.retain(|name, served| {
            let stays = present.contains(name);
            if !stays {
                served.watching.cancel();
            }
            stays
        });
        Ok(())
    }

    /// Takes all changes in.
    async fn follow(&self, mut arriving: UnboundedReceiver<Changes>) {
        let mut changes = futures::stream::SelectAll::new();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                Some(stream) = arriving.recv() => changes.push(stream),
                Some((kind, event)) = changes.next() => match event {
                    Event::Apply(object) | Event::InitApply(object) => self.saw(kind, &object),
                    Event::Delete(object) => self.lost(kind, &object),
                    Event::Init | Event::InitDone => {}
                },
            }
        }
    }

    fn saw(&self, kind: KindName, object: &DynamicObject) {
        let subject = subject(kind, object);
        let mut graph = self.lock();
        for owner in object.owner_references() {
            graph
                .dependents
                .entry(owner.uid.clone())
                .or_default()
                .insert(subject.clone());
            // The owner may wait for what has just changed here.
            if let Some(waiting) = graph.waiting.get(&owner.uid) {
                let _ = self.found.send(waiting.clone());
            }
        }
        let waits = is_going(object)
            && object
                .finalizers()
                .iter()
                .any(|one| one == FOREGROUND || one == ORPHAN);
        if waits {
            graph
                .waiting
                .insert(object.uid().unwrap_or_default(), subject.clone());
        }
        if waits || !object.owner_references().is_empty() {
            let _ = self.found.send(subject);
        }
    }

    fn lost(&self, kind: KindName, object: &DynamicObject) {
        let subject = subject(kind, object);
        let uid = object.uid().unwrap_or_default();
        let mut graph = self.lock();
        graph.waiting.remove(&uid);
        for dependent in graph.dependents.remove(&uid).unwrap_or_default() {
            let _ = self.found.send(dependent);
        }
        for owner in object.owner_references() {
            if let Some(dependents) = graph.dependents.get_mut(&owner.uid) {
                dependents.remove(&subject);
                if dependents.is_empty() {
                    graph.dependents.remove(&owner.uid);
                }
            }
            if let Some(waiting) = graph.waiting.get(&owner.uid) {
                let _ = self.found.send(waiting.clone());
            }
        }
        if !subject.namespace.is_empty() {
            let _ = self.gone.send(subject.namespace);
        }
    }

    fn api(&self, kind: &str, namespace: &str) -> Option<Api<DynamicObject>> {
        let served = self.lock().served.get(kind).cloned()?;
        Some(if served.namespaced && !namespace.is_empty() {
            Api::namespaced_with(self.client.clone(), namespace, &served.resource)
        } else {
            Api::all_with(self.client.clone(), &served.resource)
        })
    }

    async fn look_after(&self, subject: &Subject) -> kube::Result<()> {
        let Some(api) = self.api(&subject.kind, &subject.namespace) else {
            return Ok(());
        };
        let Some(object) = optional(api.get(&subject.name).await)? else {
            return Ok(());
        };
        if is_going(&object) {
            if object.finalizers().iter().any(|one| one == ORPHAN) {
                return self.orphan(&api, &object).await;
            }
            if object.finalizers().iter().any(|one| one == FOREGROUND) {
                return self.wait_for_dependents(&api, &object).await;
            }
            return Ok(());
        }
        self.judge(&api, &object).await
    }

    /// An object with owners stays as long as one of them is there.
    async fn judge(&self, api: &Api<DynamicObject>, object: &DynamicObject) -> kube::Result<()> {
        let mut dangling = Vec::new();
        let mut solid = Vec::new();
        for owner in object.owner_references() {
            match self
                .owner_is_there(owner, object.namespace().as_deref())
                .await?
            {
                Some(true) => solid.push(owner.clone()),
                Some(false) => dangling.push(owner.clone()),
                // A kind that is not served: nothing can be said.
                None => return Ok(()),
            }
        }
        if dangling.is_empty() {
            return Ok(());
        }
        if solid.is_empty() {
            return delete(api, object, DeleteParams::background()).await;
        }
        set_owners(api, object, &solid).await
    }

    async fn owner_is_there(
        &self,
        owner: &OwnerReference,
        namespace: Option<&str>,
    ) -> kube::Result<Option<bool>> {
        let kind = self.lock().served.iter().find_map(|(name, served)| {
            let same_group = owner.api_version.split('/').next()
                == Some(served.resource.group.as_str())
                || (served.resource.group.is_empty() && !owner.api_version.contains('/'));
            (same_group && served.resource.kind == owner.kind).then(|| name.clone())
        });
        let Some(api) = kind.and_then(|kind| self.api(&kind, namespace.unwrap_or_default())) else {
            return Ok(None);
        };
        let found = optional(api.get(&owner.name).await)?;
        Ok(Some(found.is_some_and(|found| {
            found.uid().as_deref() == Some(owner.uid.as_str())
        })))
    }

    /// What depends on an object at this moment, with the access to it.
    async fn dependents(
        &self,
        owner: &DynamicObject,
    ) -> kube::Result<Vec<(Api<DynamicObject>, DynamicObject)>> {
        let uid = owner.uid().unwrap_or_default();
        let kinds: Vec<(KindName, bool)> = self
            .lock()
            .served
            .iter()
            .map(|(name, served)| (name.clone(), served.namespaced))
            .collect();
        let namespace = owner.namespace().unwrap_or_default();
        let mut found = Vec::new();
        for (kind, namespaced) in kinds {
            if !namespaced && !namespace.is_empty() {
                continue;
            }
            let Some(api) = self.api(&kind, &namespace) else {
                continue;
            };
            let Some(list) = optional(api.list(&ListParams::default()).await)? else {
                continue;
            };
            for object in list {
                if !object
                    .owner_references()
                    .iter()
                    .any(|reference| reference.uid == uid)
                {
                    continue;
                }
                let own_namespace = object.namespace().unwrap_or_default();
                let Some(api) = self.api(&kind, &own_namespace) else {
                    continue;
                };
                found.push((api, object));
            }
        }
        Ok(found)
    }

    /// Lets the dependents go, then the owner.
    async fn orphan(&self, api: &Api<DynamicObject>, owner: &DynamicObject) -> kube::Result<()> {
        let uid = owner.uid().unwrap_or_default();
        for (api, dependent) in self.dependents(owner).await? {
            let others: Vec<OwnerReference> = dependent
                .owner_references()
                .iter()
                .filter(|reference| reference.uid != uid)
                .cloned()
                .collect();
            set_owners(&api, &dependent, &others).await?;
        }
        remove_finalizers(api, owner, &[ORPHAN]).await
    }

    /// Deletes the dependents; the owner goes when none is left that blocks it.
    async fn wait_for_dependents(
        &self,
        api: &Api<DynamicObject>,
        owner: &DynamicObject,
    ) -> kube::Result<()> {
        let uid = owner.uid().unwrap_or_default();
        for (api, dependent) in self.dependents(owner).await? {
            // Another owner keeps it.
            if !is_going(&dependent) && !self.has_other_owner(&dependent, &uid).await? {
                delete(&api, &dependent, DeleteParams::foreground()).await?;
            }
        }
        let blocked = self.dependents(owner).await?.iter().any(|(_, dependent)| {
            let mut references = dependent.owner_references().iter();
            references.any(|reference| {
                reference.uid == uid && reference.block_owner_deletion == Some(true)
            }) && is_going(dependent)
        });
        if blocked {
            Ok(())
        } else {
            remove_finalizers(api, owner, &[FOREGROUND]).await
        }
    }

    async fn has_other_owner(&self, dependent: &DynamicObject, uid: &str) -> kube::Result<bool> {
        for owner in dependent
            .owner_references()
            .iter()
            .filter(|owner| owner.uid != uid)
        {
            if self
                .owner_is_there(owner, dependent.namespace().as_deref())
                .await?
                != Some(false)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn subject(kind: KindName, object: &DynamicObject) -> Subject {
    Subject {
        kind,
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
    }
}

/// Deletes this very object; somebody else having done so is fine.
async fn delete(
    api: &Api<DynamicObject>,
    object: &DynamicObject,
    how: DeleteParams,
) -> kube::Result<()> {
    let only_this = Preconditions {
        uid: object.uid(),
        resource_version: object.resource_version(),
    };
    let how = DeleteParams {
        preconditions: Some(only_this),
        ..how
    };
    match api.delete(&object.name_any(), &how).await {
        Ok(_) => Ok(()),
        Err(error) if code(&error) == Some(404) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn set_owners(
    api: &Api<DynamicObject>,
    object: &DynamicObject,
    owners: &[OwnerReference],
) -> kube::Result<()> {
    let change = json!({ "metadata": {
        "uid": object.uid(), "resourceVersion": object.resource_version(), "ownerReferences": owners,
    }});
    optional(merge(api, &object.name_any(), &change).await).map(drop)
}
