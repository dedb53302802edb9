//! The model: objects as JSON, by kind and name.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::plan::{Change, Existing, Kind};
use crate::populator::ClaimKey;
use crate::populator::look::Settings;
use crate::populator::observe::World;
use crate::populator::plan::{Input, Plan, Write, plan};

pub(super) const CLAIM: &str = "data";
const NAMESPACE: &str = "site-a";
const DESTINATION_UID: &str = "rd-uid";
const MARK: &str = "volsync.backube/volpop-pvc-";

/// A cluster with a destination and a claim that is to be filled from it.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) objects: BTreeMap<(String, String), Value>,
    pub(super) settings: Settings,
    pub(super) now: Timestamp,
    /// Every event, reason and text.
    pub(super) events: Vec<(&'static str, String)>,
    /// All claims that there ever were: watches and marks name them.
    pub(super) keys: BTreeSet<ClaimKey>,
    counter: u64,
}

impl Model {
    pub(super) fn new() -> Self {
        let mut model = Self {
            objects: BTreeMap::new(),
            settings: Settings::default(),
            now: "2026-01-01T00:00:30Z".parse().unwrap(),
            events: Vec::new(),
            keys: BTreeSet::new(),
            counter: 0,
        };
        model.put(
            "StorageClass",
            "fast",
            json!({"provisioner": "csi.example", "volumeBindingMode": "Immediate"}),
        );
        model.put(
            "ReplicationDestination",
            "db",
            json!({"metadata": {"uid": DESTINATION_UID}, "spec": {"rsync": {}}}),
        );
        model.make_claim(&json!({}));
        model
    }

    /// The user makes the claim.
    pub(super) fn make_claim(&mut self, annotations: &Value) {
        self.put("PersistentVolumeClaim", CLAIM, json!({
            "metadata": {"annotations": annotations},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
                "resources": {"requests": {"storage": "2Gi"}},
                "dataSourceRef": {"apiGroup": "volsync.backube", "kind": "ReplicationDestination", "name": "db"}},
            "status": {"phase": "Pending"},
        }));
        let uid = self.claim("/metadata/uid").as_str().unwrap().to_owned();
        self.keys.insert(ClaimKey {
            namespace: NAMESPACE.into(),
            name: CLAIM.into(),
            uid,
        });
    }

    pub(super) fn put(&mut self, kind: &str, name: &str, mut object: Value) {
        self.counter += 1;
        let uid = object["metadata"]["uid"]
            .as_str()
            .map_or_else(|| format!("uid-{}", self.counter), str::to_owned);
        let metadata = json!({"name": name, "namespace": NAMESPACE, "uid": uid,
            "resourceVersion": self.counter.to_string(), "creationTimestamp": self.now.to_string()});
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
        self.counter += 1;
        let version = self.counter.to_string();
        let object = self.objects.get_mut(&(kind.to_owned(), name.to_owned()))?;
        object["metadata"]["resourceVersion"] = json!(version);
        Some(object)
    }

    pub(super) fn remove(&mut self, kind: &str, name: &str) {
        self.objects.remove(&(kind.to_owned(), name.to_owned()));
    }

    pub(super) fn names(&self, kind: &str) -> Vec<String> {
        let of_kind = self.objects.keys().filter(|(known, _)| known == kind);
        of_kind.map(|(_, name)| name.clone()).collect()
    }

    /// A part of the claim.
    pub(super) fn claim(&self, pointer: &str) -> Value {
        let claim = self.object("PersistentVolumeClaim", CLAIM);
        claim
            .and_then(|claim| claim.pointer(pointer))
            .cloned()
            .unwrap_or_default()
    }

    pub(super) fn said(&self, reason: &str) -> bool {
        self.events.iter().any(|(known, _)| *known == reason)
    }

    // === the destination ===

    /// A run of the destination ends with this image; the one before it goes if nobody uses it.
    pub(super) fn publish(&mut self, name: &str) {
        self.put("VolumeSnapshot", name, json!({
            "metadata": {"labels": {"app.kubernetes.io/created-by": "volsync"}, "ownerReferences": [
                {"apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationDestination", "name": "db",
                    "uid": DESTINATION_UID, "controller": true}]},
            "spec": {"source": {}}, "status": {"readyToUse": true, "restoreSize": "2Gi"},
        }));
        let image =
            json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": name});
        self.object_mut("ReplicationDestination", "db").unwrap()["status"]["latestImage"] = image;
    }

    /// What plan/cleanup.rs does with images that have a successor.
    pub(super) fn sweep_images(&mut self) {
        let latest = self.object("ReplicationDestination", "db").map(|rd| {
            rd["status"]["latestImage"]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        });
        for name in self.names("VolumeSnapshot") {
            let snapshot = self.object("VolumeSnapshot", &name).unwrap().clone();
            let owned = owners(&snapshot)
                .iter()
                .any(|owner| owner["uid"] == DESTINATION_UID);
            if Some(&name) == latest.as_ref() || !owned {
                continue;
            }
            let others: Vec<Value> = owners(&snapshot)
                .into_iter()
                .filter(|owner| owner["uid"] != DESTINATION_UID)
                .collect();
            let labels = snapshot["metadata"]["labels"].as_object().unwrap();
            if labels.contains_key("volsync.backube/do-not-delete") {
                let present = self.object_mut("VolumeSnapshot", &name).unwrap();
                present["metadata"]["ownerReferences"] = json!(others);
            } else if labels.keys().any(|label| label.starts_with(MARK)) || !others.is_empty() {
                let present = self.object_mut("VolumeSnapshot", &name).unwrap();
                present["metadata"]["ownerReferences"] = json!(others);
                present["metadata"]["labels"]["volsync.backube/cleanup"] = json!(DESTINATION_UID);
            } else {
                self.remove("VolumeSnapshot", &name);
            }
        }
    }

    // === Kubernetes ===

    /// Makes volumes for temporary claims; a volume remembers what is in it.
    pub(super) fn provision(&mut self) {
        for name in self.names("PersistentVolumeClaim") {
            let claim = self.object("PersistentVolumeClaim", &name).unwrap().clone();
            if name == CLAIM
                || claim["status"]["phase"] == "Bound"
                || claim["status"]["phase"] == "Lost"
            {
                continue;
            }
            let content = match claim["spec"]["dataSourceRef"]["name"].as_str() {
                Some(image) if self.object("VolumeSnapshot", image).is_some() => image.to_owned(),
                Some(_) => continue,
                None => "nothing".to_owned(),
            };
            let volume = format!("pv-of-{}", claim["metadata"]["uid"].as_str().unwrap());
            self.put("PersistentVolume", &volume, json!({"spec": {"claimRef":
                {"name": name, "namespace": NAMESPACE, "uid": claim["metadata"]["uid"]}}, "content": content}));
            let present = self.object_mut("PersistentVolumeClaim", &name).unwrap();
            present["spec"]["volumeName"] = json!(volume);
            present["status"]["phase"] = json!("Bound");
        }
    }

    /// The controller that brings claims and volumes together.
    pub(super) fn bind(&mut self) {
        for name in self.names("PersistentVolumeClaim") {
            let claim = self.object("PersistentVolumeClaim", &name).unwrap().clone();
            let uid = &claim["metadata"]["uid"];
            if let Some(volume) = claim["spec"]["volumeName"].as_str() {
                let holder = self
                    .object("PersistentVolume", volume)
                    .map(|pv| pv["spec"]["claimRef"]["uid"].clone());
                if holder.as_ref() != Some(uid) {
                    self.object_mut("PersistentVolumeClaim", &name).unwrap()["status"]["phase"] =
                        json!("Lost");
                }
                continue;
            }
            let reserved = self.objects.iter().find(|((kind, _), pv)| {
                kind == "PersistentVolume" && &pv["spec"]["claimRef"]["uid"] == uid
            });
            if let Some(((_, volume), _)) = reserved {
                let volume = volume.clone();
                let present = self.object_mut("PersistentVolumeClaim", &name).unwrap();
                present["spec"]["volumeName"] = json!(volume);
                present["status"]["phase"] = json!("Bound");
            }
        }
        for volume in self.names("PersistentVolume") {
            let holder =
                self.object("PersistentVolume", &volume).unwrap()["spec"]["claimRef"]["uid"]
                    .clone();
            if !self.has_uid(&holder) {
                self.remove("PersistentVolume", &volume);
            }
        }
    }

    fn has_uid(&self, uid: &Value) -> bool {
        self.objects
            .values()
            .any(|object| &object["metadata"]["uid"] == uid)
    }

    pub(super) fn collect_garbage(&mut self) {
        let all: Vec<(String, String)> = self.objects.keys().cloned().collect();
        for (kind, name) in all {
            let Some(object) = self.object(&kind, &name).cloned() else {
                continue;
            };
            let all = owners(&object);
            let living: Vec<Value> = all
                .iter()
                .filter(|owner| self.has_uid(&owner["uid"]))
                .cloned()
                .collect();
            if !all.is_empty() && living.is_empty() {
                self.remove(&kind, &name);
            } else if living.len() < all.len() {
                self.object_mut(&kind, &name).unwrap()["metadata"]["ownerReferences"] =
                    json!(living);
            }
        }
    }

    // === the operator ===

    pub(super) fn world(&self, key: &ClaimKey) -> World {
        let claim = self
            .object("PersistentVolumeClaim", CLAIM)
            .filter(|claim| claim["metadata"]["uid"] == json!(key.uid));
        let temporary = self.object("PersistentVolumeClaim", &key.temporary());
        let volume = temporary.and_then(|claim| {
            self.object("PersistentVolume", claim["spec"]["volumeName"].as_str()?)
        });
        let destination = self.object("ReplicationDestination", "db");
        let image = destination.and_then(|rd| {
            self.object(
                "VolumeSnapshot",
                rd["status"]["latestImage"]["name"].as_str()?,
            )
        });
        let marked = self.objects.iter().filter(|((kind, _), object)| {
            kind == "VolumeSnapshot" && object["metadata"]["labels"].get(key.mark()).is_some()
        });
        World {
            claim: claim.map(parse),
            temporary: temporary.map(parse),
            volume: volume.map(parse),
            class: claim
                .and_then(|claim| {
                    self.object("StorageClass", claim["spec"]["storageClassName"].as_str()?)
                })
                .map(parse),
            destination: destination.map(parse),
            image: image.map(parse),
            marked: marked.map(|(_, object)| parse(object)).collect(),
        }
    }

    pub(super) fn plan(&self, key: &ClaimKey) -> Plan {
        plan(&Input {
            key,
            world: &self.world(key),
            settings: &self.settings,
            now: self.now,
        })
    }

    /// Looks at all claims that there ever were; returns the number of writes. The operator is killed after `limit` of them.
    pub(super) fn look(&mut self, limit: usize) -> usize {
        let mut done = 0;
        for key in self.keys.clone() {
            let plan = self.plan(&key);
            let wanted = plan.writes.len();
            for write in plan.writes.iter().take(limit - done) {
                self.write(&key, write);
                done += 1;
            }
            if done < limit || wanted == 0 {
                self.events
                    .extend(plan.events.into_iter().map(|note| (note.reason, note.text)));
            }
            if done == limit {
                break;
            }
        }
        done
    }

    /// Everybody works until nobody has anything left to do.
    pub(super) fn settle(&mut self) {
        for _ in 0..20 {
            self.look(usize::MAX);
            self.provision();
            self.bind();
            self.collect_garbage();
        }
        assert_eq!(self.look(usize::MAX), 0, "at rest nothing is written");
    }

    pub(super) fn pass(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }

    fn write(&mut self, key: &ClaimKey, write: &Write) {
        match write {
            Write::Change(change) => self.change(key, change),
            Write::Create(claim) => {
                let name = key.temporary();
                assert_eq!(claim.metadata.name.as_ref(), Some(&name));
                if let Some(image) = claim.spec.as_ref().unwrap().data_source_ref.as_ref() {
                    let image = self
                        .object("VolumeSnapshot", &image.name)
                        .expect("a claim is made from what exists");
                    assert!(
                        image["metadata"]["labels"].get(key.mark()).is_some(),
                        "the image is marked first"
                    );
                }
                assert!(self.object("PersistentVolumeClaim", &name).is_none());
                let mut value = serde_json::to_value(claim).unwrap();
                value["status"] = json!({"phase": "Pending"});
                self.put("PersistentVolumeClaim", &name, value);
            }
            Write::Move { volume, patch } => {
                let present = self
                    .object_mut("PersistentVolume", volume)
                    .expect("the volume exists");
                let version = present["metadata"]["resourceVersion"].clone();
                merge(present, patch);
                present["metadata"]["resourceVersion"] = version;
            }
            Write::Delete(target) => {
                self.check(target);
                assert_ne!(target.name, CLAIM, "the user's claim is never deleted");
                if target.kind == Kind::Snapshot {
                    let latest = self
                        .object("ReplicationDestination", "db")
                        .map(|rd| rd["status"]["latestImage"]["name"].clone());
                    assert_ne!(
                        latest,
                        Some(json!(target.name)),
                        "the latest image is never deleted"
                    );
                }
                self.remove(kind_name(target.kind), &target.name);
            }
        }
    }

    fn change(&mut self, key: &ClaimKey, change: &Change) {
        self.check(&change.target);
        let kind = kind_name(change.target.kind);
        if change.target.name == CLAIM {
            let annotations = change.patch["metadata"]["annotations"]
                .as_object()
                .expect("only an annotation");
            assert_eq!(
                annotations.keys().collect::<Vec<_>>(),
                ["syncline.dev/population-failed"]
            );
        }
        let unmarks = change.patch.pointer(&format!(
            "/metadata/labels/{}",
            key.mark().replace('/', "~1")
        ));
        if unmarks == Some(&Value::Null) {
            let source = self
                .object("PersistentVolumeClaim", &key.temporary())
                .filter(|claim| {
                    claim["status"]["phase"] == "Pending"
                        && self.claim("/metadata/uid") == json!(key.uid)
                })
                .map(|claim| claim["spec"]["dataSourceRef"]["name"].clone());
            assert_ne!(
                source,
                Some(json!(change.target.name)),
                "an image in use stays marked"
            );
        }
        merge(
            self.object_mut(kind, &change.target.name).unwrap(),
            &change.patch,
        );
    }

    /// The API server's preconditions.
    fn check(&self, target: &Existing) {
        let object = self
            .object(kind_name(target.kind), &target.name)
            .expect("only what exists is written to");
        assert_eq!(object["metadata"]["uid"], json!(target.uid));
        let version = object["metadata"]["resourceVersion"]
            .as_str()
            .map(str::to_owned);
        assert_eq!(
            target.resource_version, version,
            "a plan changes nothing twice"
        );
    }
}

fn owners(object: &Value) -> Vec<Value> {
    object["metadata"]["ownerReferences"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Claim => "PersistentVolumeClaim",
        Kind::Snapshot => "VolumeSnapshot",
        Kind::Job => panic!("a Job is none of the populator's business"),
    }
}

fn parse<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value:#}"))
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
