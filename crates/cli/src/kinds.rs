//! Which kind a person means: `pods`, `po`, `ReplicationSource`, `replicationsources.volsync.backube`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResource;
use kube::Client;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::core::GroupVersionKind;
use kube::{Api, core::Request};

use crate::failure::{Failure, Kind};

/// Short names of ours, for kinds whose own have none.
const NICKNAMES: [(&str, &str); 5] = [
    ("source", "replicationsources"),
    ("sources", "replicationsources"),
    ("destination", "replicationdestinations"),
    ("destinations", "replicationdestinations"),
    ("snapshots", "volumesnapshots"),
];

/// What to ask for, told to those who ask for nothing or for something unknown.
const SOME: &str = "source (ReplicationSource), destination (ReplicationDestination), snapshots (VolumeSnapshot), pvc, jobs, pods, secrets, services, events are some that there are";

/// A kind that the cluster serves.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    /// Group, version, kind and plural.
    pub(crate) resource: ApiResource,
    /// Whether its objects live in namespaces.
    pub(crate) namespaced: bool,
}

impl Served {
    /// `plural.group`, or the plural alone for the core group.
    pub(crate) fn full_name(&self) -> String {
        dotted(&self.resource.plural, &self.resource.group)
    }

    /// `kind.group/name`, as kubectl names an object.
    pub(crate) fn name_of(&self, name: &str) -> String {
        format!(
            "{}/{name}",
            dotted(&self.resource.kind.to_lowercase(), &self.resource.group)
        )
    }

    /// The API of these objects, in a namespace unless they have none.
    pub(crate) fn api(&self, client: &Client, namespace: &str) -> Api<DynamicObject> {
        if self.namespaced {
            Api::namespaced_with(client.clone(), namespace, &self.resource)
        } else {
            Api::all_with(client.clone(), &self.resource)
        }
    }

    /// Requests for these objects; `None` means all namespaces.
    pub(crate) fn request(&self, namespace: Option<&str>) -> Request {
        use kube::Resource as _;
        let namespace = namespace.filter(|_| self.namespaced);
        Request::new(DynamicObject::url_path(&self.resource, namespace))
    }
}

/// Says of an object that was not found where one of that kind and name is, if anywhere. Nothing is said where the
/// search itself fails.
pub(crate) async fn or_elsewhere(
    client: &Client,
    served: &Served,
    name: &str,
    failure: Failure,
) -> Failure {
    if failure.kind != Kind::NotFound || !served.namespaced {
        return failure;
    }
    let parameters = ListParams::default().fields(&format!("metadata.name={name}"));
    let all: Api<DynamicObject> = Api::all_with(client.clone(), &served.resource);
    let places: Vec<String> = all
        .list(&parameters)
        .await
        .into_iter()
        .flatten()
        .filter(|object| object.metadata.name.as_deref() == Some(name))
        .filter_map(|object| object.metadata.namespace)
        .collect();
    match places.as_slice() {
        [] if served.resource.group == syncline_api::GROUP => {
            failure.hint("`syncline status` lists them")
        }
        [] => failure,
        [place] => failure.hint(format!("it exists in namespace {place}: add -n {place}")),
        _ => failure.hint(format!(
            "it exists in namespaces {}: add -n and one of them",
            places.join(", ")
        )),
    }
}

/// The same for a kind that is known by name only.
pub(crate) async fn or_named_elsewhere(
    client: &Client,
    kind: &str,
    name: &str,
    failure: Failure,
) -> Failure {
    if failure.kind != Kind::NotFound {
        return failure;
    }
    match resolve(client, kind).await {
        Ok(served) => or_elsewhere(client, &served, name, failure).await,
        Err(_) => failure,
    }
}

fn dotted(name: &str, group: &str) -> String {
    if group.is_empty() {
        name.to_owned()
    } else {
        format!("{name}.{group}")
    }
}

/// The name that the cluster knows, for a nickname in lower case; everything else as it is.
pub(crate) fn without_nickname(text: &str) -> &str {
    NICKNAMES
        .iter()
        .find(|(nickname, _)| *nickname == text)
        .map_or(text, |(_, plural)| *plural)
}

/// Finds what `text` means among everything that the cluster serves.
pub(crate) async fn resolve(client: &Client, text: &str) -> Result<Served, Failure> {
    let text = text.to_lowercase();
    let wanted = without_nickname(&text);
    let core = client.list_core_api_resources("v1").await?;
    if let Some(found) = pick(&core.resources, wanted, "", "v1") {
        return Ok(found);
    }
    let groups = client.list_api_groups().await?;
    for group in &groups.groups {
        let Some(version) = group
            .preferred_version
            .as_ref()
            .or_else(|| group.versions.first())
        else {
            continue;
        };
        let resources = client
            .list_api_group_resources(&version.group_version)
            .await?;
        if let Some(found) = pick(&resources.resources, wanted, &group.name, &version.version) {
            return Ok(found);
        }
    }
    Err(Failure::new(format!(
        "the cluster has no kind of resource that is called {text:?}"
    ))
    .of_kind(Kind::NotFound)
    .hint(SOME))
}

fn pick(resources: &[APIResource], wanted: &str, group: &str, version: &str) -> Option<Served> {
    let resource = resources
        .iter()
        .filter(|resource| !resource.name.contains('/'))
        .find(|resource| answers_to(resource, wanted, group))?;
    let kind = GroupVersionKind::gvk(group, version, &resource.kind);
    Some(Served {
        resource: ApiResource::from_gvk_with_plural(&kind, &resource.name),
        namespaced: resource.namespaced,
    })
}

fn answers_to(resource: &APIResource, wanted: &str, group: &str) -> bool {
    let (name, given_group) = wanted
        .split_once('.')
        .map_or((wanted, None), |(name, group)| (name, Some(group)));
    let short = resource
        .short_names
        .iter()
        .flatten()
        .any(|short| short == name);
    let named = resource.name == name
        || resource.singular_name == name
        || resource.kind.to_lowercase() == name
        || short;
    named && given_group.is_none_or(|given| given == group)
}

/// The kind of a manifest's object.
pub(crate) async fn of_document(
    client: &Client,
    api_version: &str,
    kind: &str,
) -> Result<Served, Failure> {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let served = if group.is_empty() {
        client.list_core_api_resources(version).await
    } else {
        client.list_api_group_resources(api_version).await
    };
    let unknown = || {
        Failure::new(format!("the cluster serves no {kind} of {api_version}"))
            .of_kind(Kind::NotFound)
            .hint("is the CustomResourceDefinition of this kind applied, and apiVersion spelled rightly?")
    };
    let list = match served {
        Err(kube::Error::Api(status)) if status.code == 404 => return Err(unknown()),
        other => other?,
    };
    let found = list
        .resources
        .iter()
        .find(|resource| resource.kind == kind && !resource.name.contains('/'))
        .ok_or_else(unknown)?;
    let kind = GroupVersionKind::gvk(group, version, kind);
    Ok(Served {
        resource: ApiResource::from_gvk_with_plural(&kind, &found.name),
        namespaced: found.namespaced,
    })
}

/// An object as it is named on the command line: `KIND NAME…` or `KIND/NAME…`.
pub(crate) fn objects(words: &[String]) -> Result<Vec<(String, Option<String>)>, Failure> {
    let Some((first, rest)) = words.split_first() else {
        return Err(Failure::new("say which kind of object")
            .of_kind(Kind::Usage)
            .hint(SOME));
    };
    if words.iter().any(|word| word.contains('/')) {
        return words
            .iter()
            .map(|word| match word.split_once('/') {
                Some((kind, name)) if !kind.is_empty() && !name.is_empty() => {
                    Ok((kind.to_owned(), Some(name.to_owned())))
                }
                _ => Err(
                    Failure::new(format!("{word:?} is not of the form KIND/NAME"))
                        .of_kind(Kind::Usage)
                        .hint("write either KIND NAME … or KIND/NAME …"),
                ),
            })
            .collect();
    }
    if rest.is_empty() {
        return Ok(first
            .split(',')
            .map(|kind| (kind.to_owned(), None))
            .collect());
    }
    Ok(rest
        .iter()
        .map(|name| (first.clone(), Some(name.clone())))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource() -> APIResource {
        APIResource {
            name: "persistentvolumeclaims".to_owned(),
            singular_name: "persistentvolumeclaim".to_owned(),
            kind: "PersistentVolumeClaim".to_owned(),
            short_names: Some(vec!["pvc".to_owned()]),
            ..APIResource::default()
        }
    }

    #[test]
    fn a_kind_answers_to_all_its_names() {
        for name in ["persistentvolumeclaims", "persistentvolumeclaim", "pvc"] {
            assert!(answers_to(&resource(), name, ""), "{name}");
        }
        assert!(answers_to(&resource(), "pvc.storage", "storage"));
        assert!(!answers_to(&resource(), "pvc.storage", ""));
        assert!(!answers_to(&resource(), "pv", ""));
    }

    #[test]
    fn objects_are_named_in_kubectls_ways() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let some = |kind: &str, name: &str| (kind.to_owned(), Some(name.to_owned()));
        assert_eq!(
            objects(&words("pod a b")).unwrap(),
            [some("pod", "a"), some("pod", "b")]
        );
        assert_eq!(
            objects(&words("pod/a job/b")).unwrap(),
            [some("pod", "a"), some("job", "b")]
        );
        assert_eq!(
            objects(&words("pods,jobs")).unwrap(),
            [("pods".to_owned(), None), ("jobs".to_owned(), None)]
        );
        for refused in [objects(&words("pod/a b")), objects(&[])] {
            assert_eq!(refused.unwrap_err().kind.exit_code(), 2);
        }
    }
}
