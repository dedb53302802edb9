//! What the operator would do with what there is, without doing it: the very same observe, validate and plan, through a
//! client that cannot write.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use serde::Serialize;
use syncline_api::conditions::{ERROR, SYNCHRONIZING};
use syncline_api::labels;
use syncline_api::names::{Mover, Side};
use syncline_api::{ReplicationDestination, ReplicationSource};

use crate::business::is_ours;
use crate::guard::read_only;
use crate::kinds::{Key, kind_of};
use crate::observe::{self, Reader, World};
use crate::options::Options;
use crate::plan::{
    Existing, Input, Kind, Moment, Object, Plan, is_of_volsync, lets_movers_be_root, plan,
};
use crate::status::State;
use crate::subject::Subject;
use crate::validate::{Refusal, Validated, chosen_mover, validate};

/// Objects a page of a list holds at most.
const PAGE: u32 = 500;

/// What would happen to one resource.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Preview {
    /// `ReplicationSource` or `ReplicationDestination`.
    pub kind: &'static str,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The field of the spec that chooses its mover, if there is exactly one.
    pub mover: Option<&'static str>,
    /// What would happen, in a word.
    pub verdict: Verdict,
    /// The same in a sentence.
    pub message: String,
    /// What will not be as with `VolSync`, and what to do about it before the first run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// When the next scheduled run is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_sync_time: Option<Timestamp>,
    /// Objects that the next step would make, or bring to what they should be, as `Kind/name`.
    pub applies: Vec<String>,
    /// Objects of which the next step would change a field.
    pub changes: Vec<String>,
    /// Objects that the next step would delete.
    pub deletes: Vec<String>,
    /// Whether it would write the status.
    pub writes_status: bool,
}

/// What would happen to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Verdict {
    /// Not a byte of it would be touched.
    LeftAlone,
    /// Something keeps runs from happening.
    Trouble,
    /// It rests until its time comes.
    Waits,
    /// A run would start at once.
    Starts,
    /// A run of Syncline's goes on.
    GoesOn,
    /// A run of `VolSync`'s is left to finish.
    FinishesVolSync,
}

/// Something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The resources could not be listed.
    #[error("the {what} could not be listed")]
    List {
        /// Which ones.
        what: &'static str,
        /// Why not.
        #[source]
        source: Box<kube::Error>,
    },
    /// What one of them depends on could not be read.
    #[error(transparent)]
    Observe(#[from] observe::Error),
}

/// All resources in a namespace, or in all of them: sources first, by namespace and name.
pub async fn keys(client: &Client, namespace: Option<&str>) -> Result<Vec<Key>, Error> {
    let mut all = listed::<ReplicationSource>(client, namespace, Side::Source).await?;
    all.extend(listed::<ReplicationDestination>(client, namespace, Side::Destination).await?);
    all.sort_by(|one, other| {
        (&one.namespace, one.side, &one.name).cmp(&(&other.namespace, other.side, &other.name))
    });
    Ok(all)
}

async fn listed<K>(client: &Client, namespace: Option<&str>, side: Side) -> Result<Vec<Key>, Error>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let client = read_only(client);
    let api: Api<K> = match namespace {
        Some(name) => Api::namespaced(client, name),
        None => Api::all(client),
    };
    let mut parameters = ListParams::default().limit(PAGE);
    let mut keys = Vec::new();
    loop {
        let page = api
            .list_metadata(&parameters)
            .await
            .map_err(|source| Error::List {
                what: kind_of(side),
                source: Box::new(source),
            })?;
        keys.extend(page.items.iter().map(|item| Key {
            side,
            namespace: item.namespace().unwrap_or_default(),
            name: item.name_any(),
        }));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(keys),
        }
    }
}

/// What would happen to a resource now; `None` when it is no more.
pub async fn preview(
    client: &Client,
    key: &Key,
    options: &Options,
    now: Timestamp,
) -> Result<Option<Preview>, Error> {
    let client = read_only(client);
    let Some(resource) = observe::resource(&client, key).await? else {
        return Ok(None);
    };
    let subject = resource.subject();
    if !is_ours(&options.movers, &subject) {
        let text = "its mover is not one that this operator looks after";
        return Ok(Some(Preview::untouched(&subject, text)));
    }
    let settings = options.plan_settings();
    // One that may not be read may have any annotation.
    let namespace = match chosen_mover(&subject.spec) {
        Some(Mover::Rclone) => Reader::new(&client, &key.namespace).namespace().await?,
        _ => None,
    };
    let mut world = Box::pin(observe::world(&client, &subject, &settings)).await?;
    world.may_start = true;
    let moment = Moment {
        now,
        jitter: 0.0,
        // Keys that are never written need no chance.
        seeds: ([0; 32], [0; 32]),
    };
    let wish = validate(&subject, now, &settings.zone);
    if let Err(Refusal::NotOurs) = wish {
        let text = "an external provider looks after it";
        return Ok(Some(Preview::untouched(&subject, text)));
    }
    let plan = plan(&Input {
        subject: &subject,
        wish: wish.as_ref(),
        world: &world,
        moment: &moment,
        settings: &settings,
    });
    let writes_status = plan
        .status
        .as_ref()
        .is_some_and(|state| resource.status_change(state).is_some());
    let mut seen = Preview::of(&subject, &world, &plan, writes_status);
    if seen.verdict != Verdict::LeftAlone
        && let (Ok(wish), Some(namespace)) = (&wish, &namespace)
    {
        seen.advice = advice(&subject, wish, namespace);
    }
    Ok(Some(seen))
}

/// What a user has to know of a resource that `VolSync` ran with rclone and Syncline did not yet, where nobody says who its
/// mover is.
fn advice(subject: &Subject, wish: &Validated, namespace: &Namespace) -> Option<String> {
    let state = &subject.state;
    // A source that keeps no notes has entries and no version.
    let ran_ours = state
        .rclone
        .as_ref()
        .is_some_and(|known| known.generation.is_some() || known.last_synced_entries.is_some());
    let is_volsyncs = state.last_sync_time.is_some() && !ran_ours;
    let context = wish.pod.security_context.as_ref();
    let says_who = context.is_some_and(|pod| pod.run_as_user.is_some() || pod.fs_group.is_some());
    if !is_volsyncs || says_who || lets_movers_be_root(namespace) {
        return None;
    }
    let fails = match subject.key.side {
        Side::Source => "read what only root may (SourceUnreadable)",
        Side::Destination => "write to a volume of root's (DestinationUnwritable)",
    };
    Some(format!(
        "the mover becomes another user: VolSync's is root without capabilities where the cluster assigns no user, Syncline's the \
         image's user 65532, who cannot {fails}; annotate namespace {} with {}: \"true\", or set \
         spec.rclone.moverSecurityContext, with {{runAsUser: 0}} for the user of VolSync's",
        subject.key.namespace,
        labels::PRIVILEGED_MOVERS
    ))
}

impl Preview {
    fn untouched(subject: &Subject, message: &str) -> Self {
        Self {
            kind: kind_of(subject.key.side),
            namespace: subject.key.namespace.clone(),
            name: subject.key.name.clone(),
            mover: chosen_mover(&subject.spec).map(Mover::field),
            verdict: Verdict::LeftAlone,
            message: message.to_owned(),
            advice: None,
            next_sync_time: None,
            applies: Vec::new(),
            changes: Vec::new(),
            deletes: Vec::new(),
            writes_status: false,
        }
    }

    fn of(subject: &Subject, world: &World, plan: &Plan, writes_status: bool) -> Self {
        let Some(state) = &plan.status else {
            return Self::untouched(subject, "it is being deleted");
        };
        let (verdict, message) = verdict(subject, world, state);
        Self {
            verdict,
            message,
            next_sync_time: state.next_sync_time,
            applies: plan.apply.iter().map(object_name).collect(),
            changes: plan
                .changes
                .iter()
                .map(|change| target_name(&change.target))
                .collect(),
            deletes: plan.delete.iter().map(target_name).collect(),
            writes_status,
            ..Self::untouched(subject, "")
        }
    }
}

fn verdict(subject: &Subject, world: &World, state: &State) -> (Verdict, String) {
    let condition = state.condition(SYNCHRONIZING);
    let said = condition.map_or("", |condition| condition.message.as_str());
    if condition.is_some_and(|condition| condition.reason == ERROR) {
        return (Verdict::Trouble, said.to_owned());
    }
    let runs = subject.state.last_sync_start_time.is_some();
    // A run that is held up stays so until its pods tell otherwise; until then the status tells of it.
    let present = subject.state.condition(SYNCHRONIZING);
    let held = present.filter(|present| present.reason == ERROR);
    match &world.job {
        Some(job) if runs && is_of_volsync(job) => (
            Verdict::FinishesVolSync,
            "a run of VolSync's is under way; it is left to finish and counted".to_owned(),
        ),
        _ if runs && state.last_sync_start_time.is_some() => held.map_or_else(
            || (Verdict::GoesOn, "a run is under way and goes on".to_owned()),
            |held| (Verdict::Trouble, held.message.clone()),
        ),
        _ if runs => (
            Verdict::GoesOn,
            "a run has ended and is recorded".to_owned(),
        ),
        _ if state.last_sync_start_time.is_some() => {
            (Verdict::Starts, "a run starts at once".to_owned())
        }
        _ => (Verdict::Waits, said.to_owned()),
    }
}

fn object_name(object: &Object) -> String {
    fn named<K: kube::Resource<DynamicType = ()>>(object: &K) -> String {
        format!(
            "{}/{}",
            K::kind(&()),
            object.meta().name.as_deref().unwrap_or_default()
        )
    }
    match object {
        Object::ServiceAccount(object) => named(&**object),
        Object::Role(object) => named(&**object),
        Object::RoleBinding(object) => named(&**object),
        Object::Secret(object) => named(&**object),
        Object::Service(object) => named(&**object),
        Object::Claim(object) => named(&**object),
        Object::Snapshot(object) => named(&**object),
        Object::Job(object) => named(&**object),
    }
}

fn target_name(target: &Existing) -> String {
    let kind = match target.kind {
        Kind::Job => "Job",
        Kind::Claim => "PersistentVolumeClaim",
        Kind::Snapshot => "VolumeSnapshot",
    };
    format!("{kind}/{}", target.name)
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_run_that_the_status_calls_held_up_is_trouble_until_its_pods_tell_otherwise() {
        let running = |reason: &str| {
            let source: ReplicationSource = serde_json::from_value(json!({
                "metadata": {"name": "db", "namespace": "east"}, "spec": {"sourcePVC": "data", "rsync": {}},
                "status": {"lastSyncStartTime": "2026-11-21T11:00:00Z", "conditions": [{
                    "type": "Synchronizing", "status": "False", "reason": reason, "message": "the pod is refused",
                    "lastTransitionTime": "2026-11-21T11:00:00Z"}]},
            }))
            .unwrap();
            let subject = Subject::of_source(&source);
            let goes_on = State {
                conditions: Vec::new(),
                ..subject.state.clone()
            };
            verdict(&subject, &World::default(), &goes_on)
        };
        assert_eq!(
            running("Error"),
            (Verdict::Trouble, "the pod is refused".to_owned())
        );
        assert_eq!(running("SyncInProgress").0, Verdict::GoesOn);
    }

    /// What is advised for a destination with `context` and `status`, in a namespace whose annotation is `word`.
    fn advised(context: &Value, status: &Value, word: &str) -> Option<String> {
        let destination: ReplicationDestination = serde_json::from_value(json!({
            "metadata": {"name": "db", "namespace": "east"}, "status": status,
            "spec": {"rclone": {"rcloneConfig": "store", "rcloneConfigSection": "s3", "rcloneDestPath": "bucket/db",
                "copyMethod": "Direct", "capacity": "1Gi", "accessModes": ["ReadWriteOnce"], "moverSecurityContext": context}},
        }))
        .unwrap();
        let namespace: Namespace = serde_json::from_value(json!({
            "metadata": {"name": "east", "annotations": {"volsync.backube/privileged-movers": word}},
        }))
        .unwrap();
        let subject = Subject::of_destination(&destination);
        let now = "2026-11-21T12:00:00Z".parse().unwrap();
        let wish = validate(&subject, now, &TimeZone::UTC).unwrap();
        advice(&subject, &wish, &namespace)
    }

    #[test]
    fn where_volsync_ran_rclone_as_root_of_the_container_the_cures_are_named_before_a_run_fails() {
        let volsyncs = json!({"lastSyncTime": "2026-11-21T11:00:00Z"});
        let said = advised(&Value::Null, &volsyncs, "").unwrap();
        for part in [
            "65532",
            "DestinationUnwritable",
            "annotate namespace east with volsync.backube/privileged-movers: \"true\"",
            "spec.rclone.moverSecurityContext, with {runAsUser: 0}",
        ] {
            assert!(said.contains(part), "{part:?} is not in {said:?}");
        }
        assert!(advised(&json!({"runAsGroup": 5}), &volsyncs, "no").is_some());

        assert_eq!(advised(&Value::Null, &volsyncs, "true"), None);
        for context in [json!({"runAsUser": 0}), json!({"fsGroup": 999})] {
            assert_eq!(advised(&context, &volsyncs, ""), None);
        }
        let ours =
            json!({"lastSyncTime": "2026-11-21T11:00:00Z", "rclone": {"generation": "17-a"}});
        for status in [ours, json!({}), Value::Null] {
            assert_eq!(advised(&Value::Null, &status, ""), None);
        }
    }
}
