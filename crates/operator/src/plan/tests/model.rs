//! The model: objects as JSON, by kind and name.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use syncline_api::names::{Mover, Side};
use syncline_api::report::{MoverResult, Report, Role};
use syncline_api::status::Progress;

use crate::follow::Reported;
use crate::kinds::{Key, kind_of};
use crate::observe::{
    Complaint, Found, Further, Keys, Labelled, PullSecret, Resource, Secrets, Store, World,
};
use crate::options::{MoverImages, MoverLog};
use crate::plan::{
    Change, Existing, Input, Kind, Moment, Object, Plan, PullSecrets, Settings, plan,
};
use crate::status::Writing;
use crate::validate::{Certificate, Holder, mover_config, validate};

pub(super) const UID: &str = "cr-uid";
pub(super) const NAMESPACE: &str = "site-a";
pub(super) const NAME: &str = "db";

/// A cluster with one resource in it.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is so or not, whatever the others are"
)]
pub(super) struct Model {
    pub(super) side: Side,
    pub(super) resource: Value,
    pub(super) objects: BTreeMap<(String, String), Value>,
    pub(super) now: Timestamp,
    pub(super) may_start: bool,
    /// What chance gives.
    pub(super) jitter: f64,
    /// How many resources keep failing.
    pub(super) failing: usize,
    /// Whether to try again before the time.
    pub(super) called: bool,
    pub(super) classes: Found,
    pub(super) snapshots_known: bool,
    /// Whether `VolSync`'s definitions of the kinds are installed, which have no field for what is ours.
    pub(super) prunes: bool,
    /// Until when the movers' image is not tried.
    pub(super) image_distrusted_until: Option<Timestamp>,
    /// What the API server refused in the look before.
    pub(super) refusal: Option<String>,
    /// What stands at the end of a mover's log.
    pub(super) reported: Option<Reported>,
    /// How far a mover says that it has come.
    pub(super) progress: Option<Progress>,
    /// The uid of `kube-system`.
    pub(super) cluster: Option<String>,
    /// The proxies of the operator's environment.
    pub(super) proxies: Vec<(String, String)>,
    /// What the cluster complains of, by uid.
    pub(super) complaints: BTreeMap<String, Complaint>,
    /// Every reason of every event.
    pub(super) events: Vec<&'static str>,
    counter: u64,
}

/// One write that a plan asks for.
#[derive(Debug)]
enum Write<'a> {
    Change(&'a Change),
    Apply(&'a Object),
    Status(Writing),
    Delete(&'a Existing),
}

impl Model {
    pub(super) fn new(side: Side, spec: Value) -> Self {
        let mut model = Self {
            side,
            resource: json!({
                "metadata": {"name": NAME, "namespace": NAMESPACE, "uid": UID, "generation": 1},
                "spec": spec,
            }),
            objects: BTreeMap::new(),
            now: "2026-01-01T00:00:30Z".parse().unwrap(),
            may_start: true,
            jitter: 0.0,
            failing: 0,
            called: false,
            classes: Found::NotNamed,
            snapshots_known: true,
            prunes: false,
            image_distrusted_until: None,
            refusal: None,
            reported: None,
            progress: None,
            cluster: None,
            proxies: Vec::new(),
            complaints: BTreeMap::new(),
            events: Vec::new(),
            counter: 0,
        };
        model.put("PersistentVolumeClaim", "pvc-user", json!({
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "fast", "resources": {"requests": {"storage": "2Gi"}}},
            "status": {"phase": "Bound", "capacity": {"storage": "3Gi"}, "accessModes": ["ReadWriteOnce"]},
        }));
        model
    }

    /// A source of `pvc-user` with the rsync settings in `rsync`.
    pub(super) fn source(trigger: Value, rsync: Value) -> Self {
        let mut settings = json!({"address": "dst.example", "copyMethod": "Snapshot"});
        merge(&mut settings, &rsync);
        Self::new(
            Side::Source,
            json!({"sourcePVC": "pvc-user", "trigger": trigger, "rsync": settings}),
        )
    }

    /// A destination with a volume of its own and the rsync settings in `rsync`.
    pub(super) fn destination(trigger: Value, rsync: Value) -> Self {
        let mut settings =
            json!({"copyMethod": "Snapshot", "capacity": "2Gi", "accessModes": ["ReadWriteOnce"]});
        merge(&mut settings, &rsync);
        Self::new(
            Side::Destination,
            json!({"trigger": trigger, "rsync": settings}),
        )
    }

    /// A source of `pvc-user` with the rclone settings in `rclone`, and its store.
    pub(super) fn rclone_source(trigger: Value, rclone: Value) -> Self {
        let mut settings = store();
        merge(&mut settings, &json!({"copyMethod": "Snapshot"}));
        merge(&mut settings, &rclone);
        let spec = json!({"sourcePVC": "pvc-user", "trigger": trigger, "rclone": settings});
        Self::new(Side::Source, spec).with_store()
    }

    /// A destination with a volume of its own and the rclone settings in `rclone`, and its store.
    pub(super) fn rclone_destination(trigger: Value, rclone: Value) -> Self {
        let mut settings = store();
        let volume =
            json!({"copyMethod": "Snapshot", "capacity": "2Gi", "accessModes": ["ReadWriteOnce"]});
        merge(&mut settings, &volume);
        merge(&mut settings, &rclone);
        let spec = json!({"trigger": trigger, "rclone": settings});
        Self::new(Side::Destination, spec).with_store()
    }

    fn with_store(mut self) -> Self {
        self.put_store();
        self
    }

    /// The Secret with rclone's configuration as it should be.
    pub(super) fn put_store(&mut self) {
        let config =
            k8s_openapi::ByteString(b"[s3]\ntype = s3\nsecret_access_key = hidden\n".to_vec());
        self.put("Secret", "store", json!({"data": {"rclone.conf": config}}));
    }

    /// Changes the spec as a user would.
    pub(super) fn edit(&mut self, change: Value) {
        merge(&mut self.resource["spec"], &change);
        let generation = self.resource["metadata"]["generation"].as_i64().unwrap();
        self.resource["metadata"]["generation"] = json!(generation + 1);
    }

    pub(super) fn put(&mut self, kind: &str, name: &str, mut object: Value) {
        self.counter += 1;
        let metadata = json!({"name": name, "namespace": NAMESPACE, "uid": format!("uid-{}", self.counter),
            "resourceVersion": self.counter.to_string(), "creationTimestamp": second(self.now)});
        let mut given = object["metadata"].take();
        merge(&mut given, &metadata);
        object["metadata"] = given;
        self.objects
            .insert((kind.to_owned(), name.to_owned()), object);
    }

    pub(super) fn object(&self, kind: &str, name: &str) -> Option<&Value> {
        self.objects.get(&(kind.to_owned(), name.to_owned()))
    }

    pub(super) fn object_mut(&mut self, kind: &str, name: &str) -> Option<&mut Value> {
        self.objects.get_mut(&(kind.to_owned(), name.to_owned()))
    }

    pub(super) fn names(&self, kind: &str) -> Vec<&str> {
        self.objects
            .keys()
            .filter(|(known, _)| known == kind)
            .map(|(_, name)| name.as_str())
            .collect()
    }

    pub(super) fn status(&self) -> &Value {
        &self.resource["status"]
    }

    /// The reason and message of the condition `Synchronizing`.
    pub(super) fn says(&self) -> (String, String) {
        let conditions = self.status()["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let found = conditions
            .iter()
            .find(|condition| condition["type"] == "Synchronizing")
            .cloned()
            .unwrap_or_default();
        (
            found["reason"].as_str().unwrap_or_default().to_owned(),
            found["message"].as_str().unwrap_or_default().to_owned(),
        )
    }

    pub(super) fn pass(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }

    pub(super) fn parsed(&self) -> Resource {
        match self.side {
            Side::Source => Resource::Source(Box::new(parse(&self.resource))),
            Side::Destination => Resource::Destination(Box::new(parse(&self.resource))),
        }
    }

    fn get<T: DeserializeOwned>(&self, kind: &str, name: &str) -> Option<T> {
        self.object(kind, name).map(parse)
    }

    fn list<T: DeserializeOwned>(&self, kind: &str, filter: impl Fn(&Value) -> bool) -> Vec<T> {
        self.objects
            .iter()
            .filter(|((known, _), object)| known == kind && filter(object))
            .map(|(_, object)| parse(object))
            .collect()
    }

    pub(super) fn infix(&self) -> &'static str {
        self.side.infix()
    }

    /// The mover that the plan is about.
    pub(super) fn mover(&self) -> Mover {
        self.parsed().subject().spec.acting_mover()
    }

    pub(super) fn job_name(&self) -> String {
        format!("volsync-{}-{}-{NAME}", self.mover().as_str(), self.infix())
    }

    pub(super) fn own_claim(&self) -> String {
        let infix = match (self.mover(), self.side) {
            (Mover::Rclone, Side::Destination) => "dest",
            _ => self.infix(),
        };
        format!("volsync-{NAME}-{infix}")
    }

    /// What rclone's configuration and certificate have.
    fn store(&self) -> Store {
        let remote = self.parsed().subject().spec.remote().cloned();
        let remote = remote.unwrap_or_default();
        let secret = |name: &str| {
            self.get("Secret", name)
                .map(|found| Keys::of_secret(&found))
        };
        let config = remote.rclone_config.unwrap_or_default();
        let certificate = remote.custom_ca.as_ref().and_then(Certificate::of);
        let section = remote.rclone_config_section.unwrap_or_default();
        Store {
            config: self
                .get("Secret", &config)
                .map(|found| Keys::of_config(&found, &section)),
            certificate: certificate.and_then(|wanted| match wanted.holder {
                Holder::Secret => secret(&wanted.name),
                Holder::ConfigMap => {
                    let map = self.get("ConfigMap", &wanted.name);
                    map.map(|found| Keys::of_map(&found))
                }
            }),
        }
    }

    pub(super) fn world(&self) -> World {
        let infix = self.infix();
        let account = format!("volsync-{infix}-{NAME}");
        let spec = &self.resource["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let given = text(if self.side == Side::Source {
            &spec["sourcePVC"]
        } else {
            &spec[self.mover().field()]["destinationPVC"]
        });
        let job: Option<Value> = self.object("Job", &self.job_name()).cloned();
        let labelled =
            |object: &Value| object["metadata"]["labels"]["volsync.backube/cleanup"] == UID;
        let made = |object: &Value| {
            object["metadata"]["labels"]["app.kubernetes.io/created-by"] == "volsync"
        };
        let pods = job.as_ref().map(|job| job["metadata"]["uid"].clone());
        let mut world = World {
            namespace: self.get("Namespace", NAMESPACE),
            cluster: self.cluster.clone(),
            pull_secrets: self.pull_secrets(),
            further: self.further(),
            store: self.store(),
            progress: self.progress.clone(),
            service_account: match spec[self.mover().field()]["moverServiceAccount"].as_str() {
                Some(name) => self.get("ServiceAccount", name),
                None => self.get("ServiceAccount", &account),
            },
            role: self.get("Role", &account),
            role_binding: self.get("RoleBinding", &account),
            secrets: Secrets {
                given: self.get("Secret", &text(&spec["rsync"]["sshKeys"])),
                main: self.get("Secret", &format!("volsync-rsync-{infix}-main-{NAME}")),
                source: self.get("Secret", &format!("volsync-rsync-{infix}-src-{NAME}")),
                destination: self.get("Secret", &format!("volsync-rsync-{infix}-dest-{NAME}")),
            },
            service: self.get("Service", &self.job_name()),
            job: job.as_ref().map(parse),
            pods: self.list("Pod", |pod| {
                Some(&pod["metadata"]["ownerReferences"][0]["uid"]) == pods.as_ref()
            }),
            given_claim: self.get("PersistentVolumeClaim", &given),
            own_claim: self.get("PersistentVolumeClaim", &self.own_claim()),
            images: self.list("VolumeSnapshot", made),
            labelled: Labelled {
                jobs: self.list("Job", labelled),
                claims: self.list("PersistentVolumeClaim", labelled),
                snapshots: self.list("VolumeSnapshot", labelled),
            },
            storage_class: self.classes,
            snapshot_class: self.classes,
            snapshots_known: self.snapshots_known,
            may_start: self.may_start,
            failing: self.failing,
            called: self.called,
            refusal: self.refusal.clone(),
            image_distrusted_until: self.image_distrusted_until,
            complaints: self.complaints.clone(),
            reported: self.reported.clone(),
            ..World::default()
        };
        let mounted = world.job.as_ref().and_then(crate::plan::mounted_claim);
        if let Some(name) = mounted.filter(|name| world.claim(name).is_none()) {
            world.job_claim = self.get("PersistentVolumeClaim", &name);
        }
        world.snapshot = self
            .snapshot_name(&world)
            .and_then(|name| self.get("VolumeSnapshot", &name));
        world
    }

    /// The Secrets that were put under `Original`, and their copies.
    fn pull_secrets(&self) -> Vec<PullSecret> {
        let originals = self.list::<Secret>("Original", |_| true);
        let found = originals.into_iter().map(|original| {
            let name = original.metadata.name.clone().unwrap_or_default();
            PullSecret {
                copy: self.get("Secret", &syncline_api::names::pull_secret(&name)),
                original,
            }
        });
        found.collect()
    }

    /// The cluster complains of an object.
    pub(super) fn complain_of(&mut self, kind: &str, name: &str, reason: &str, message: &str) {
        let uid = self.object(kind, name).unwrap()["metadata"]["uid"].clone();
        let complaint = Complaint {
            reason: reason.to_owned(),
            message: message.to_owned(),
        };
        self.complaints
            .insert(uid.as_str().unwrap().to_owned(), complaint);
    }

    fn further(&self) -> Further {
        let config = mover_config(&self.parsed().subject()).unwrap_or_default();
        let mut further = Further::default();
        for volume in config.mover_volumes.unwrap_or_default() {
            let source = volume.volume_source;
            if let Some(claim) = source.persistent_volume_claim {
                further
                    .claims
                    .extend(self.get("PersistentVolumeClaim", &claim.claim_name));
            }
            if let Some(name) = source.secret.and_then(|secret| secret.secret_name)
                && self.object("Secret", &name).is_some()
            {
                further.secrets.insert(name);
            }
        }
        further
    }

    fn snapshot_name(&self, world: &World) -> Option<String> {
        if self.side == Side::Source {
            return Some(self.own_claim());
        }
        let claim = match world.job.as_ref().and_then(crate::plan::mounted_claim) {
            Some(name) => world.claim(&name),
            None => world.given_claim.as_ref().or(world.own_claim.as_ref()),
        };
        crate::subject::annotation(&claim?.metadata, "volsync.backube/snapname").map(str::to_owned)
    }

    pub(super) fn plan_with(&self, world: &World) -> Plan {
        let subject = self.parsed().subject();
        let moment = Moment {
            now: self.now,
            jitter: self.jitter,
            seeds: ([1; 32], [2; 32]),
        };
        let settings = Settings {
            zone: TimeZone::UTC,
            images: MoverImages::all("syncline"),
            rsync_port: 2022,
            mover_log: MoverLog::default(),
            pull_secrets: PullSecrets::default(),
            proxies: self.proxies.clone(),
        };
        let wish = validate(&subject, self.now, &settings.zone);
        plan(&Input {
            subject: &subject,
            wish: wish.as_ref(),
            world,
            moment: &moment,
            settings: &settings,
        })
    }

    pub(super) fn plan(&self) -> Plan {
        self.plan_with(&self.world())
    }

    /// One look at the resource, of which at most `limit` writes get through. Returns how many there were.
    pub(super) fn step(&mut self, limit: usize) -> usize {
        let world = self.world();
        let plan = self.plan_with(&world);
        self.check_laws(&plan, &world);
        let change = plan
            .status
            .as_ref()
            .and_then(|state| self.parsed().status_change(state));
        let writes: Vec<Write<'_>> = plan
            .changes
            .iter()
            .map(Write::Change)
            .chain(plan.apply.iter().map(Write::Apply))
            .chain(change.map(Write::Status))
            .chain(plan.delete.iter().map(Write::Delete))
            .collect();
        for write in writes.iter().take(limit) {
            match write {
                Write::Change(change) => self.change(change),
                Write::Apply(object) => self.apply(object),
                Write::Status(writing) => self.write_status(writing, plan.status.as_ref()),
                Write::Delete(target) => self.delete(target),
            }
        }
        self.events
            .extend(plan.events.iter().map(|note| note.reason));
        writes.len().min(limit)
    }

    /// Looks until there is nothing more to do now.
    pub(super) fn settle(&mut self) {
        for _ in 0..50 {
            if self.step(usize::MAX) == 0 {
                return;
            }
        }
        panic!(
            "the resource does not come to rest: {:#?}\n{:#?}",
            self.status(),
            self.plan()
        );
    }

    fn check_laws(&self, plan: &Plan, world: &World) {
        let recorded = plan
            .status
            .as_ref()
            .and_then(|state| state.latest_image.clone());
        for target in &plan.delete {
            let kind = kind_name(target.kind);
            let object = self
                .object(kind, &target.name)
                .expect("only what exists is deleted");
            assert_eq!(
                object["metadata"]["ownerReferences"][0]["uid"], UID,
                "only what is ours is deleted"
            );
            assert_ne!(target.name, "pvc-user", "the user's claim is never deleted");
            if let Some(image) = &recorded {
                assert!(
                    image.kind != kind || image.name != target.name,
                    "the latest image is never deleted"
                );
            }
        }
        for change in plan
            .changes
            .iter()
            .filter(|change| change.target.name == "pvc-user")
        {
            let text = change.patch.to_string();
            assert!(
                (text.contains("snapname") || text.contains("latest-copy-"))
                    && !text.contains("spec")
                    && !text.contains("/copy-trigger\"")
                    && !text.contains("use-copy-trigger"),
                "the user's claim is left alone: {text}"
            );
        }
        let job_applied = plan
            .apply
            .iter()
            .any(|object| matches!(object, Object::Job(_)));
        assert!(
            !job_applied || world.job.is_none(),
            "a Job is never applied again"
        );
        let claims = plan.apply.iter().filter_map(|object| match object {
            Object::Claim(claim) => claim.metadata.name.clone(),
            _ => None,
        });
        assert!(
            claims.into_iter().all(|name| name != "pvc-user"),
            "the user's claim is never applied"
        );
        self.check_image(plan);
    }

    /// The image moves only to what is ready, and only with a transfer's success.
    fn check_image(&self, plan: &Plan) {
        let Some(image) = plan
            .status
            .as_ref()
            .and_then(|state| state.latest_image.as_ref())
        else {
            return;
        };
        if self.status()["latestImage"]["name"] == json!(image.name) {
            return;
        }
        let job = self
            .object("Job", &self.job_name())
            .expect("an image comes from a Job");
        if image.kind == "VolumeSnapshot" {
            let snapshot = self
                .object("VolumeSnapshot", &image.name)
                .expect("an image exists");
            assert_eq!(snapshot["status"]["readyToUse"], true);
            assert!(
                made_at(snapshot) > made_at(job),
                "an image has what its run received"
            );
        }
        let last_word = self
            .reported
            .as_ref()
            .filter(|reported| reported.last && reported.report.result == MoverResult::Successful);
        let pod_succeeded = self.objects.iter().any(|((kind, _), pod)| {
            kind == "Pod"
                && pod["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"]
                && (pod["status"]["phase"] == "Succeeded"
                    || last_word.is_some_and(|said| pod["metadata"]["uid"] == said.pod.as_str()))
        });
        assert!(
            pod_succeeded || job["status"]["succeeded"] == 1,
            "the kubelet has confirmed it, or the mover has nothing left to do"
        );
    }

    fn change(&mut self, change: &Change) {
        let kind = kind_name(change.target.kind);
        let object = self
            .object_mut(kind, &change.target.name)
            .expect("only what exists is changed");
        assert_eq!(object["metadata"]["uid"], json!(change.target.uid));
        merge(object, &change.patch);
    }

    fn apply(&mut self, object: &Object) {
        let (kind, value) = match object {
            Object::ServiceAccount(object) => ("ServiceAccount", to_value(object)),
            Object::Role(object) => ("Role", to_value(object)),
            Object::RoleBinding(object) => ("RoleBinding", to_value(object)),
            Object::Secret(object) => ("Secret", to_value(object)),
            Object::Service(object) => ("Service", to_value(object)),
            Object::Claim(object) => ("PersistentVolumeClaim", to_value(object)),
            Object::Snapshot(object) => ("VolumeSnapshot", to_value(object)),
            Object::Job(object) => ("Job", to_value(object)),
        };
        let name = value["metadata"]["name"].as_str().unwrap().to_owned();
        match self.object_mut(kind, &name) {
            Some(present) => merge(present, &value),
            None => self.put(kind, &name, value),
        }
    }

    fn delete(&mut self, target: &Existing) {
        let kind = kind_name(target.kind);
        let removed = self
            .objects
            .remove(&(kind.to_owned(), target.name.clone()))
            .expect("only what exists is deleted");
        assert_eq!(removed["metadata"]["uid"], json!(target.uid));
        if target.kind == Kind::Job {
            self.objects.retain(|(kind, _), object| {
                kind != "Pod"
                    || object["metadata"]["ownerReferences"][0]["uid"] != json!(target.uid)
            });
        }
    }

    // === what the cluster's controllers do ===

    pub(super) fn give_address(&mut self) {
        let name = self.job_name();
        if let Some(service) = self.object_mut("Service", &name) {
            service["spec"]["clusterIP"] = json!("10.0.0.7");
        }
    }

    pub(super) fn snapshots_become_ready(&mut self) {
        for ((kind, name), object) in &mut self.objects {
            if kind == "VolumeSnapshot" {
                object["status"] = json!({"boundVolumeSnapshotContentName": format!("content-{name}"),
                    "readyToUse": true, "restoreSize": "2Gi"});
            }
        }
    }

    /// The Job has a pod, whose mover runs.
    pub(super) fn mover_runs(&mut self) {
        let name = self.job_name();
        let job = self.object("Job", &name).expect("a Job")["metadata"]["uid"].clone();
        let owner = json!({"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job});
        self.put(
            "Pod",
            &format!("{name}-x"),
            json!({
            "metadata": {"ownerReferences": [owner]}, "status": {"phase": "Running", "startTime": second(self.now)}}),
        );
    }

    /// The running mover says in its log that it has succeeded, and whether it is about to exit.
    pub(super) fn mover_reports(&mut self, report: Report, last: bool) {
        let name = format!("{}-x", self.job_name());
        let pod = self.object("Pod", &name).expect("a pod")["metadata"]["uid"].clone();
        self.reported = Some(Reported {
            pod: pod.as_str().unwrap().to_owned(),
            report,
            last,
        });
    }

    /// The kubelet says how the mover's pod ended; the Job does not know yet.
    pub(super) fn pod_ends(&mut self, report: &Report, success: bool) {
        let name = format!("{}-x", self.job_name());
        let message = report.to_termination_message();
        let container = self.mover().as_str();
        let pod = self.object_mut("Pod", &name).expect("a pod");
        pod["status"] = json!({"phase": if success { "Succeeded" } else { "Failed" }, "containerStatuses": [{"name": container,
            "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": i32::from(!success), "message": message}}}]});
    }

    /// The mover ends with this report.
    pub(super) fn end_job(&mut self, report: &Report, success: bool) {
        let name = self.job_name();
        let container = self.mover().as_str();
        let Some(job) = self.object_mut("Job", &name) else {
            return;
        };
        if job["spec"]["parallelism"] == 0 || !job["status"].is_null() {
            return;
        }
        job["status"] = if success {
            json!({"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]})
        } else {
            json!({"failed": 3, "conditions": [{"type": "Failed", "status": "True"}]})
        };
        let owner = json!({"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job["metadata"]["uid"]});
        let message = report.to_termination_message();
        let pod = format!("{name}-x");
        let began = self
            .object("Pod", &pod)
            .map(|pod| pod["status"]["startTime"].clone());
        self.put("Pod", &pod, json!({
            "metadata": {"ownerReferences": [owner]},
            "status": {"startTime": began, "phase": if success { "Succeeded" } else { "Failed" }, "containerStatuses": [{"name": container, "image": "",
                "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": i32::from(!success), "message": message}}}]},
        }));
    }

    /// The mover succeeds with this generation; at a source, after it has compared everything or not.
    pub(super) fn succeed_with(&mut self, generation: &str, full_check: bool) {
        let mut report = Report::successful(self.mover().as_str(), self.role());
        report.entries = Some(7);
        report.generation = Some(generation.to_owned());
        report.full_check = full_check;
        self.end_job(&report, true);
    }

    pub(super) fn succeed(&mut self) {
        let mut report = Report::successful(self.mover().as_str(), self.role());
        report.logs = "sent 10 bytes  received 20 bytes".into();
        report.entries = Some(7);
        self.end_job(&report, true);
    }

    pub(super) fn succeed_with_nothing(&mut self) {
        let mut report = Report::successful("rsync", self.role());
        report.entries = Some(0);
        self.end_job(&report, true);
    }

    pub(super) fn fail(&mut self) {
        let mut report = Report::failed(
            "rsync",
            self.role(),
            "PeerUnreachable",
            "dst.example does not answer",
        );
        report.logs = "ssh: connect: refused".into();
        self.end_job(&report, false);
    }

    fn role(&self) -> Role {
        match self.side {
            Side::Source => Role::Source,
            Side::Destination => Role::Destination,
        }
    }

    /// Everything that the cluster does by itself, and a successful transfer, until all is at rest.
    pub(super) fn run_once(&mut self) {
        self.settle();
        self.give_address();
        self.settle();
        self.snapshots_become_ready();
        self.settle();
        self.succeed();
        self.settle();
        self.snapshots_become_ready();
        self.settle();
    }

    pub(super) fn key(&self) -> Key {
        Key {
            side: self.side,
            namespace: NAMESPACE.into(),
            name: NAME.into(),
        }
    }
}

/// The store that the model's resources use.
pub(super) fn store() -> Value {
    json!({"rcloneConfig": "store", "rcloneConfigSection": "s3", "rcloneDestPath": "bucket/db"})
}

/// The place of an object in the order in which all were made.
fn made_at(object: &Value) -> u64 {
    let uid = object["metadata"]["uid"].as_str().unwrap();
    uid.trim_start_matches("uid-").parse().unwrap()
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Job => "Job",
        Kind::Claim => "PersistentVolumeClaim",
        Kind::Snapshot => "VolumeSnapshot",
    }
}

fn to_value(object: &impl Serialize) -> Value {
    serde_json::to_value(object).unwrap()
}

fn parse<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value:#}"))
}

fn second(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// RFC 7396.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let target = target.as_object_mut().unwrap();
    for (name, value) in fields {
        if value.is_null() {
            target.remove(name);
        } else {
            merge(target.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

#[test]
fn the_model_speaks_of_the_resource_it_holds() {
    let model = Model::source(json!({}), json!({}));
    assert_eq!(model.parsed().subject().key, model.key());
    assert_eq!(kind_of(model.side), "ReplicationSource");
}
