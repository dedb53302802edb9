//! Observe: the operator's only reader. Live requests, never a cache: what a plan makes or deletes because something is
//! absent must not rest on what was true a while ago.

mod complaints;
mod leads;
mod pull;
mod read;
mod store;
mod world;

use futures::try_join;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    Node, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use syncline_api::movers::{MoverConfig, MoverVolumeSource};
use syncline_api::names::{self, Mover, Side};
use syncline_api::{ReplicationDestination, ReplicationSource, labels};

use crate::kinds::{Key, VolumeSnapshot, VolumeSnapshotClass};
use crate::options::MoverLog;
use crate::plan::{Settings, container_of, has_ended, mounted_claim, report_of};
use crate::status::{MEMORY, State, Writing, correction, writing};
use crate::subject::{Subject, VolumeOptions, annotation, has_label, owners};
use crate::validate::mover_config;
pub(crate) use read::Reader;

pub use pull::PullSecret;
pub use read::Error;
pub use store::{Keys, Store};
pub use world::{Complaint, Found, Further, Labelled, Secrets, World};

/// One resource as it was read, with the whole of its status.
#[derive(Clone, Debug, PartialEq)]
pub enum Resource {
    /// A source.
    Source(Box<ReplicationSource>),
    /// A destination.
    Destination(Box<ReplicationDestination>),
}

impl Resource {
    /// The resource without the difference between the kinds.
    pub fn subject(&self) -> Subject {
        match self {
            Self::Source(source) => Subject::of_source(source),
            Self::Destination(destination) => Subject::of_destination(destination),
        }
    }

    /// How its status is to be taken to `state`; `None` when there is nothing to change.
    pub fn status_change(&self, state: &State) -> Option<Writing> {
        let (old, new) = match self {
            Self::Source(source) => {
                let mut status = source.status.clone().unwrap_or_default();
                state.write_source(&mut status);
                (
                    serde_json::to_value(&source.status).ok()?,
                    serde_json::to_value(status).ok()?,
                )
            }
            Self::Destination(destination) => {
                let mut status = destination.status.clone().unwrap_or_default();
                state.write_destination(&mut status);
                (
                    serde_json::to_value(&destination.status).ok()?,
                    serde_json::to_value(status).ok()?,
                )
            }
        };
        writing(&old, &new, state, annotation(self.metadata(), MEMORY))
    }

    /// What has to be remembered otherwise, when this is the answer to a status that was written as `state`.
    pub fn memory_after(&self, state: &State) -> Option<serde_json::Value> {
        let found = match self {
            Self::Source(source) => source.status.as_ref().map(State::of_source),
            Self::Destination(destination) => {
                destination.status.as_ref().map(State::of_destination)
            }
        };
        let kept = annotation(self.metadata(), MEMORY);
        correction(state, &found.unwrap_or_default(), kept)
    }

    /// Its metadata.
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Source(source) => &source.metadata,
            Self::Destination(destination) => &destination.metadata,
        }
    }
}

/// Reads a resource; `None` when it is no more.
pub async fn resource(client: &Client, key: &Key) -> Result<Option<Resource>, Error> {
    let reader = Reader::new(client, &key.namespace);
    Ok(match key.side {
        Side::Source => reader
            .get(&key.name)
            .await?
            .map(|source| Resource::Source(Box::new(source))),
        Side::Destination => reader
            .get(&key.name)
            .await?
            .map(|destination| Resource::Destination(Box::new(destination))),
    })
}

/// Reads everything that a plan for `subject` may depend on, apart from what the operator itself knows.
pub async fn world(
    client: &Client,
    subject: &Subject,
    settings: &Settings,
) -> Result<World, Error> {
    let reader = Reader::new(client, &subject.key.namespace);
    let named = Named::by(subject);
    let (identity, pull_secrets, further, secrets, store, service, job, claims, labelled) = try_join!(
        identity(&reader, subject, &named),
        pull::pull_secrets(client, subject, settings),
        further(&reader, &named),
        secrets(&reader, subject, &named),
        store::store(&reader, &subject.spec),
        service(&reader, &named),
        reader.get::<Job>(&named.job),
        claims(&reader, &named),
        labelled(&reader, &subject.uid),
    )?;
    let (given_claim, own_claim) = claims;
    let (labelled, snapshots_known) = labelled;
    let (service_account, role, role_binding) = identity;
    let mut world = World {
        service_account,
        role,
        role_binding,
        pull_secrets,
        further,
        secrets,
        store,
        service,
        job,
        given_claim,
        own_claim,
        labelled,
        snapshots_known,
        ..World::default()
    };
    look_closer(&reader, subject, &named, &mut world).await?;
    if let Some(job) = &world.job {
        world.log = last_words(&reader, job, &world.pods, settings.mover_log).await;
    }
    Ok(world)
}

/// Reads what depends on what was read before.
async fn look_closer(
    reader: &Reader<'_>,
    subject: &Subject,
    named: &Named<'_>,
    world: &mut World,
) -> Result<(), Error> {
    if let Some(job) = world.job.clone() {
        world.pods = pods_of(reader, &job).await?;
        if let Some(name) = mounted_claim(&job).filter(|name| world.claim(name).is_none()) {
            world.job_claim = reader.get(&name).await?;
        }
    } else if subject.state.last_sync_start_time.is_some() {
        (world.users, world.nodes) = users(reader, &named.shared_claims(world)).await?;
    }
    if subject.state.last_sync_start_time.is_some() {
        if named.acting != Mover::Rsync || named.mover.mover_security_context.is_some() {
            world.namespace = reader.namespace().await?;
        }
        if named.acting == Mover::Rclone && subject.key.side == Side::Source {
            world.cluster = reader.cluster().await?;
        }
        complaints::complaints(reader, world).await?;
    }
    if world.snapshots_known {
        world.snapshot = match snapshot_name(subject, world) {
            Some(name) => reader.get(&name).await?,
            None => None,
        };
        if subject.key.side == Side::Destination {
            let label = format!("{}={}", labels::CREATED_BY, labels::CREATED_BY_VOLSYNC);
            world.images = reader.list(&label).await?.unwrap_or_default();
        }
    }
    world.storage_class = reader.finds::<StorageClass>(named.storage_class).await?;
    world.snapshot_class = reader
        .finds::<VolumeSnapshotClass>(named.snapshot_class)
        .await?;
    Ok(())
}

/// The names of what is to be read.
struct Named<'a> {
    acting: Mover,
    mover: MoverConfig,
    job: String,
    service: String,
    given_claim: Option<&'a str>,
    own_claim: String,
    ssh_keys: Option<&'a str>,
    storage_class: Option<&'a str>,
    snapshot_class: Option<&'a str>,
    direct: bool,
}

impl<'a> Named<'a> {
    fn by(subject: &'a Subject) -> Self {
        let (side, name, spec) = (subject.key.side, &subject.key.name, &subject.spec);
        let acting = spec.acting_mover();
        let volume = spec.volume(acting);
        Self {
            acting,
            // What cannot be read is a mistake that validation tells.
            mover: mover_config(subject).unwrap_or_default(),
            job: names::job(acting, side, name),
            service: names::service(acting, side, name),
            given_claim: some(spec.given_claim(acting)),
            own_claim: names::data_pvc(acting, side, name),
            ssh_keys: some(spec.ssh_keys()),
            storage_class: some(volume.and_then(VolumeOptions::storage_class)),
            snapshot_class: some(volume.and_then(VolumeOptions::snapshot_class)),
            direct: volume.is_some_and(VolumeOptions::is_direct),
        }
    }

    /// The claims that the mover shares with pods of others: the volume itself, and the user's further ones.
    fn shared_claims(&self, world: &World) -> Vec<String> {
        let claim = if self.given_claim.is_some() {
            &world.given_claim
        } else {
            &world.own_claim
        };
        let name = claim.as_ref().and_then(|claim| claim.metadata.name.clone());
        let further = self.further().filter_map(|source| {
            let claim = source.persistent_volume_claim.as_ref()?;
            Some(claim.claim_name.clone())
        });
        name.filter(|_| self.direct)
            .into_iter()
            .chain(further)
            .collect()
    }

    fn further(&self) -> impl Iterator<Item = &MoverVolumeSource> {
        let volumes = self.mover.mover_volumes.iter().flatten();
        volumes.map(|volume| &volume.volume_source)
    }
}

/// An empty name names nothing.
fn some(name: Option<&String>) -> Option<&str> {
    name.map(String::as_str).filter(|name| !name.is_empty())
}

type Identity = (Option<ServiceAccount>, Option<Role>, Option<RoleBinding>);

async fn identity(
    reader: &Reader<'_>,
    subject: &Subject,
    named: &Named<'_>,
) -> Result<Identity, Error> {
    if let Some(name) = some(named.mover.mover_service_account.as_ref()) {
        return Ok((reader.get(name).await?, None, None));
    }
    let name = names::service_account(subject.key.side, &subject.key.name);
    try_join!(reader.get(&name), reader.get(&name), reader.get(&name))
}

/// What the user's further volumes hold. Of a Secret its name is enough.
async fn further(reader: &Reader<'_>, named: &Named<'_>) -> Result<Further, Error> {
    let mut further = Further::default();
    for source in named.further() {
        if let Some(claim) = &source.persistent_volume_claim {
            further.claims.extend(reader.get(&claim.claim_name).await?);
        }
        if let Some(name) = source
            .secret
            .as_ref()
            .and_then(|secret| some(secret.secret_name.as_ref()))
            && reader.exists::<Secret>(name).await?
        {
            further.secrets.insert(name.to_owned());
        }
    }
    Ok(further)
}

/// Only rsync's movers are reached through a Service.
async fn service(reader: &Reader<'_>, named: &Named<'_>) -> Result<Option<Service>, Error> {
    if named.acting != Mover::Rsync {
        return Ok(None);
    }
    reader.get(&named.service).await
}

async fn secrets(
    reader: &Reader<'_>,
    subject: &Subject,
    named: &Named<'_>,
) -> Result<Secrets, Error> {
    if named.acting != Mover::Rsync {
        return Ok(Secrets::default());
    }
    if let Some(name) = named.ssh_keys {
        return Ok(Secrets {
            given: reader.get::<Secret>(name).await?,
            ..Secrets::default()
        });
    }
    let (side, name) = (subject.key.side, &subject.key.name);
    let (main, source, destination) = (
        names::ssh_keys_main(side, name),
        names::ssh_keys_source(side, name),
        names::ssh_keys_destination(side, name),
    );
    let (main, source, destination) = try_join!(
        reader.get(&main),
        reader.get(&source),
        reader.get(&destination)
    )?;
    Ok(Secrets {
        given: None,
        main,
        source,
        destination,
    })
}

type Claims = (Option<PersistentVolumeClaim>, Option<PersistentVolumeClaim>);

async fn claims(reader: &Reader<'_>, named: &Named<'_>) -> Result<Claims, Error> {
    let given = async {
        match named.given_claim {
            Some(name) => reader.get(name).await,
            None => Ok(None),
        }
    };
    try_join!(given, reader.get(&named.own_claim))
}

async fn labelled(reader: &Reader<'_>, uid: &str) -> Result<(Labelled, bool), Error> {
    let label = format!("{}={uid}", labels::CLEANUP);
    let (jobs, claims, snapshots) = try_join!(
        reader.list(&label),
        reader.list(&label),
        reader.list::<VolumeSnapshot>(&label)
    )?;
    let known = snapshots.is_some();
    let labelled = Labelled {
        jobs: jobs.unwrap_or_default(),
        claims: claims.unwrap_or_default(),
        snapshots: snapshots.unwrap_or_default(),
    };
    Ok((labelled, known))
}

/// The pods of this Job, and not of an earlier one of the same name.
async fn pods_of(reader: &Reader<'_>, job: &Job) -> Result<Vec<Pod>, Error> {
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let mut pods: Vec<Pod> = reader
        .list(&format!("job-name={name}"))
        .await?
        .unwrap_or_default();
    pods.retain(|pod| {
        owners(&pod.metadata).any(|owner| Some(&owner.uid) == job.metadata.uid.as_ref())
    });
    Ok(pods)
}

/// The end of the log of a mover that left no report.
async fn last_words(
    reader: &Reader<'_>,
    job: &Job,
    pods: &[Pod],
    wanted: MoverLog,
) -> Option<String> {
    let told = !wanted.exceeds_reports() && pods.iter().any(|pod| report_of(pod).is_some());
    if !has_ended(job) || told {
        return None;
    }
    let newest = pods.iter().max_by_key(|pod| {
        pod.metadata
            .creation_timestamp
            .as_ref()
            .map(|created| created.0)
    })?;
    let (name, container) = (newest.metadata.name.as_deref()?, container_of(newest)?);
    reader.log(name, container, wanted.tail_lines).await
}

/// Pods other than movers that use one of the claims, and their nodes.
async fn users(reader: &Reader<'_>, claims: &[String]) -> Result<(Vec<Pod>, Vec<Node>), Error> {
    if claims.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let mut pods: Vec<Pod> = reader.list("").await?.unwrap_or_default();
    pods.retain(|pod| {
        claims.iter().any(|claim| uses(pod, claim))
            && !has_label(
                &pod.metadata,
                labels::CREATED_BY,
                labels::CREATED_BY_VOLSYNC,
            )
    });
    let mut nodes = Vec::new();
    let mut names: Vec<&str> = pods
        .iter()
        .filter_map(|pod| pod.spec.as_ref()?.node_name.as_deref())
        .collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        nodes.extend(reader.node(name).await?);
    }
    Ok((pods, nodes))
}

/// Whether a pod mounts a claim.
pub(crate) fn uses(pod: &Pod, claim: &str) -> bool {
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    volumes
        .filter_map(|volume| volume.persistent_volume_claim.as_ref())
        .any(|source| source.claim_name == claim)
}

/// The snapshot that matters now: of a source's image; at a destination, the one whose name the volume bears.
fn snapshot_name(subject: &Subject, world: &World) -> Option<String> {
    if subject.key.side == Side::Source {
        return Some(names::source_snapshot(&subject.key.name));
    }
    let claim = match world.job.as_ref().and_then(mounted_claim) {
        Some(name) => world.claim(&name),
        None => world.given_claim.as_ref().or(world.own_claim.as_ref()),
    };
    annotation(&claim?.metadata, labels::SNAPSHOT_NAME)
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
}
