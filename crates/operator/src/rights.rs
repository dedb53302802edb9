//! What the operator may not do although it should: found out by asking the API server itself, told in a condition of
//! every resource, in the log, and by a failing readiness where no condition can be written.
//!
//! It asks when it starts, when a request was forbidden, and every now and then while something is missing. At rest, with
//! all that it needs, it asks nothing.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::Client;
use kube::api::{Api, PostParams};
use kube::client::Body;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tower::service_fn;

use crate::clock::Clock;
use crate::options::Options;
use crate::permissions::{Feature, PERMISSIONS, Permission, Scope};
use crate::reconcile::chain;

/// How often is asked at most, and how often while something is missing.
const PAUSE: Duration = Duration::from_secs(30);

/// A verb that is not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The row that wants it.
    pub permission: &'static Permission,
    /// The verb.
    pub verb: &'static str,
}

/// What is missing at the moment.
#[derive(Debug)]
pub struct Rights {
    missing: watch::Sender<Vec<Missing>>,
    doubts: Arc<Notify>,
}

impl Default for Rights {
    fn default() -> Self {
        Self {
            missing: watch::Sender::new(Vec::new()),
            doubts: Arc::default(),
        }
    }
}

/// A row, and the namespace that it is needed in; everywhere without one.
type Need = (&'static Permission, Option<String>);

impl Rights {
    /// Resolves whenever something else is missing than before.
    pub fn changes(&self) -> watch::Receiver<Vec<Missing>> {
        self.missing.subscribe()
    }

    /// What is missing, in a sentence for a condition.
    pub fn complaint(&self) -> Option<String> {
        sentence(&self.missing.borrow())
    }

    /// What is missing without which no condition can be written, in a sentence.
    pub fn keeps_from_working(&self) -> Option<String> {
        let essential: Vec<Missing> = self
            .missing
            .borrow()
            .iter()
            .filter(|missing| is_essential(missing))
            .copied()
            .collect();
        sentence(&essential)
    }

    /// A client that raises a doubt about the operator's rights whenever a request is forbidden.
    pub fn around(&self, client: &Client) -> Client {
        let (inner, doubts) = (client.clone(), Arc::clone(&self.doubts));
        let service = service_fn(move |request: http::Request<Body>| {
            let (inner, doubts) = (inner.clone(), Arc::clone(&doubts));
            async move {
                let answer = inner.send(request).await;
                if let Ok(answer) = &answer
                    && answer.status() == StatusCode::FORBIDDEN
                {
                    doubts.notify_one();
                }
                answer
            }
        });
        Client::new(service, client.default_namespace())
    }

    /// Asks until `stop`.
    pub async fn look_after(
        self: Arc<Self>,
        client: Client,
        options: Options,
        clock: Arc<dyn Clock>,
        stop: CancellationToken,
    ) {
        let needs = needs(&options);
        loop {
            match ask(&client, &needs).await {
                Ok(missing) => self.learn(missing),
                Err(error) => tracing::debug!(
                    error = chain(&error),
                    "what the operator may do could not be found out; it is asked again"
                ),
            }
            let complete = self.missing.borrow().is_empty();
            tokio::select! {
                () = stop.cancelled() => return,
                () = clock.rest(PAUSE) => {}
            }
            if complete {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.doubts.notified() => {}
                }
            }
        }
    }

    fn learn(&self, missing: Vec<Missing>) {
        for new in missing
            .iter()
            .filter(|found| !self.missing.borrow().contains(found))
        {
            tracing::warn!(
                verb = new.verb,
                resource = new.permission.full_resource(),
                purpose = new.permission.why,
                "Forbidden: the operator lacks a permission; grant it, see docs/permissions.md"
            );
        }
        let changed = self.missing.send_if_modified(|known| {
            let differs = *known != missing;
            *known = missing;
            differs
        });
        if changed && self.missing.borrow().is_empty() {
            tracing::info!("the operator has all the permissions that it needs");
        }
    }
}

/// Whether nothing can be told in a resource without it.
fn is_essential(missing: &Missing) -> bool {
    let Permission {
        group,
        resource,
        scope,
        ..
    } = missing.permission;
    let kinds = *group == syncline_api::GROUP
        && match resource.split_once('/') {
            None => ["get", "list", "watch"].contains(&missing.verb),
            Some((_, part)) => part == "status",
        };
    kinds || (*scope == Scope::Own && missing.permission.feature == Feature::Election)
}

fn sentence(missing: &[Missing]) -> Option<String> {
    let all: Vec<String> = missing
        .iter()
        .map(|Missing { permission, verb }| {
            format!("{verb} {} ({})", permission.full_resource(), permission.why)
        })
        .collect();
    (!all.is_empty()).then(|| {
        format!(
            "Forbidden: the operator's role does not allow: {}; grant it (a helm upgrade brings the chart's roles up to date, \
             docs/permissions.md lists all of them), and this goes by itself",
            all.join("; ")
        )
    })
}

/// What an operator with these options needs.
fn needs(options: &Options) -> Vec<Need> {
    let alone = options.watch_namespace.is_some();
    let need = |row: &'static Permission| -> Option<Need> {
        let wanted = match row.feature {
            Feature::Replication | Feature::Populator if row.scope == Scope::Tenant => {
                !(alone && row.feature == Feature::Populator)
            }
            Feature::Replication | Feature::Populator => !alone,
            Feature::Election => options.election.is_some(),
            Feature::MetricsAccess => options
                .metrics
                .as_ref()
                .is_some_and(|metrics| metrics.require_rbac),
            // Whoever may read all Secrets of the cluster may read those of the own namespace.
            Feature::PullSecrets => {
                (alone || row.scope == Scope::Tenant) && !options.mover_pull_secrets.is_empty()
            }
        };
        let namespace = match row.scope {
            Scope::Tenant => options.watch_namespace.clone(),
            Scope::Cluster => None,
            Scope::Own => options
                .election
                .as_ref()
                .map(|election| election.namespace.clone())
                .or_else(|| options.own_namespace.clone()),
        };
        wanted.then_some((row, namespace))
    };
    PERMISSIONS.iter().filter_map(need).collect()
}

async fn ask(client: &Client, needs: &[Need]) -> Result<Vec<Missing>, kube::Error> {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let mut missing = Vec::new();
    for (permission, namespace) in needs {
        for verb in permission.verbs {
            let question = question(permission, verb, namespace.as_deref());
            let answer = reviews.create(&PostParams::default(), &question).await?;
            if answer.status.is_some_and(|status| !status.allowed) {
                missing.push(Missing { permission, verb });
            }
        }
    }
    Ok(missing)
}

fn question(row: &Permission, verb: &str, namespace: Option<&str>) -> SelfSubjectAccessReview {
    let (resource, subresource) = match row.resource.split_once('/') {
        Some((resource, sub)) => (resource, Some(sub.to_owned())),
        None => (row.resource, None),
    };
    SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(row.group.to_owned()),
                resource: Some(resource.to_owned()),
                subresource,
                verb: Some(verb.to_owned()),
                namespace: namespace.map(str::to_owned),
                name: row.names.first().map(|name| (*name).to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(resource: &str) -> &'static Permission {
        PERMISSIONS
            .iter()
            .find(|row| row.resource == resource)
            .unwrap()
    }

    fn missing(resource: &str, verb: &'static str) -> Missing {
        let permission = row(resource);
        Missing { permission, verb }
    }

    #[test]
    fn what_is_missing_is_named_with_verb_resource_and_cure() {
        let rights = Rights::default();
        assert_eq!(rights.complaint(), None);
        rights.learn(vec![missing("jobs", "patch")]);
        let words = rights.complaint().unwrap();
        assert!(
            words.starts_with("Forbidden: ") && words.contains("patch jobs.batch (the movers)"),
            "{words}"
        );
        assert!(words.contains("helm upgrade"), "{words}");
        assert_eq!(rights.keeps_from_working(), None);
        rights.learn(Vec::new());
        assert_eq!(rights.complaint(), None);
    }

    #[test]
    fn an_operator_that_cannot_tell_it_in_a_condition_is_not_ready() {
        for (resource, verb) in [
            ("replicationsources", "list"),
            ("replicationdestinations", "watch"),
            ("replicationsources/status", "patch"),
            ("leases", "update"),
        ] {
            let rights = Rights::default();
            rights.learn(vec![missing(resource, verb)]);
            assert!(rights.keeps_from_working().is_some(), "{verb} {resource}");
        }
    }

    #[test]
    fn an_operator_of_one_namespace_wants_nothing_on_the_cluster() {
        let options = Options {
            watch_namespace: Some("team".to_owned()),
            ..Options::default()
        };
        let needs = needs(&options);
        assert!(!needs.is_empty());
        assert!(
            needs
                .iter()
                .all(|(row, namespace)| row.scope == Scope::Tenant
                    && namespace.as_deref() == Some("team"))
        );
    }

    #[test]
    fn the_question_is_the_one_that_a_request_would_be_judged_by() {
        let asked = question(row("pods/log"), "get", Some("team"))
            .spec
            .resource_attributes
            .unwrap();
        assert_eq!(
            (asked.resource.as_deref(), asked.subresource.as_deref()),
            (Some("pods"), Some("log"))
        );
    }
}
