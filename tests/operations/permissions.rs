//! The operator's permissions: each one that is taken away is named, none is missing, and none was granted in vain.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream, try_join};
use serde_json::{Value, json};
use syncline_operator::permissions::{Feature, PERMISSIONS, Permission, Scope};
use syncline_testkit::scenario::{CAP, Stage};
use syncline_testkit::wait::{Look, wait_for};
use syncline_testkit::{Site, Who, scenario};
use syncline_tests::parts::{condition, text};

use crate::outside::Outside;
use crate::system::System;
use crate::{needs, turn};

/// Operators of one namespace each that run at once.
const AT_ONCE: usize = 8;
/// The mover whose resources the operators of the whole cluster look after. Those of one namespace have resources of another
/// mover to complain in, so that none takes back what another one said; that it is not to be had changes nothing here.
const OF_CLUSTER: &str = "rsync";
const OF_NAMESPACE: &str = "rclone";
/// The user whom the installed operator works as.
const OPERATOR: &str = "system:serviceaccount:syncline-system:syncline";
const ACCOUNT: &str = "operator";
/// The source in whose condition the operator complains.
const SOURCE: &str = "watched";

/// One verb that an operator is started without.
#[derive(Clone, Copy)]
struct Lack {
    row: &'static Permission,
    verb: &'static str,
}

impl Lack {
    fn all() -> impl Iterator<Item = Self> {
        let of_row =
            |row: &'static Permission| row.verbs.iter().map(move |verb| Self { row, verb });
        PERMISSIONS.iter().flat_map(of_row)
    }

    fn name(self) -> String {
        let Permission { scope, feature, .. } = self.row;
        let resource = self.row.full_resource();
        format!("without {} {resource} ({feature:?}, {scope:?})", self.verb)
    }

    /// Whether only an operator of the whole cluster needs it.
    fn is_of_cluster(self) -> bool {
        match self.row.feature {
            Feature::Populator => true,
            Feature::Replication => self.row.scope == Scope::Cluster,
            Feature::Election | Feature::MetricsAccess | Feature::PullSecrets => false,
        }
    }

    /// Whether no status can be written without it.
    fn is_essential(self) -> bool {
        let of_kinds = self.row.resource == "replicationsources"
            || self.row.resource == "replicationdestinations";
        (of_kinds && self.verb != "patch")
            || self.row.resource.ends_with("/status")
            || self.row.feature == Feature::Election
    }

    /// What an operator says that lacks this and nothing else.
    fn complaint(self) -> String {
        let Self { row, verb } = self;
        let resource = row.full_resource();
        format!("does not allow: {verb} {resource} ({}); grant it", row.why)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_permission_that_is_taken_away_is_named() -> Result<()> {
    let _turn = turn().await;
    let place = needs::DEPLOYMENT.shared(Who::Caller).await?;
    scenario(place, "rights", |stage| async move {
        let system = System::of(&stage.cluster).await?;
        // The installed operator has all the rights, and would take every complaint back.
        system.scale(0).await?;
        let outcome = try_join!(in_one_namespace(&stage), in_the_cluster(&stage));
        system.scale(1).await?;
        outcome?;
        Ok(())
    })
    .await
}

async fn in_one_namespace(stage: &Stage) -> Result<()> {
    let lacks = Lack::all().filter(|lack| !lack.is_of_cluster());
    stream::iter(lacks.enumerate())
        .map(|(number, lack)| async move {
            let site = stage.site(&format!("r{number}")).await?;
            is_named_in_one_namespace(stage, &site, lack)
                .await
                .with_context(|| lack.name())
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// One after the other, since each sees the whole cluster.
async fn in_the_cluster(stage: &Stage) -> Result<()> {
    let lacks = Lack::all().filter(|lack| lack.is_of_cluster());
    for (number, lack) in lacks.enumerate() {
        let site = stage.site(&format!("c{number}")).await?;
        let named = is_named_in_the_cluster(&site, lack).await;
        site.delete("ClusterRoleBinding", &site.namespace).await?;
        site.delete("ClusterRole", &site.namespace).await?;
        named.with_context(|| lack.name())?;
    }
    Ok(())
}

/// Starts an operator of one namespace without one verb, with whatever makes it need that.
async fn is_named_in_one_namespace(stage: &Stage, site: &Site, lack: Lack) -> Result<()> {
    let feature = lack.row.feature;
    grant(
        site,
        site,
        ROLE,
        &|row| (row.scope, row.feature) == (Scope::Tenant, Feature::Replication),
        lack,
    )
    .await?;
    let mut home = site.clone();
    if lack.row.scope == Scope::Own {
        home = stage.site("home").await?;
        let needed = |row: &Permission| (row.scope, row.feature) == (Scope::Own, feature);
        grant(&home, site, ROLE, &needed, lack).await?;
    }
    let of_metrics = feature == Feature::MetricsAccess;
    if of_metrics {
        let needed = |row: &Permission| row.feature == feature;
        grant(site, site, CLUSTER_ROLE, &needed, lack).await?;
    }
    put_source(site, OF_NAMESPACE).await?;
    let watched = format!("--watch-namespace={}", site.namespace);
    let more = match feature {
        Feature::Election => vec!["--leader-elect"],
        Feature::PullSecrets => vec!["--mover-image-pull-secrets=pull"],
        Feature::MetricsAccess => vec!["--metrics-bind-address=127.0.0.1:0"],
        Feature::Replication | Feature::Populator => Vec::new(),
    };
    let arguments: Vec<&str> = more.into_iter().chain([watched.as_str()]).collect();
    let operator = Outside::start(site, &account(site), &home.namespace, &arguments)?;
    let named = is_named(site, &operator, lack).await;
    if of_metrics {
        site.delete("ClusterRoleBinding", &site.namespace).await?;
        site.delete("ClusterRole", &site.namespace).await?;
    }
    named
}

/// Starts an operator of the whole cluster without one verb, for one mover's resources.
async fn is_named_in_the_cluster(site: &Site, lack: Lack) -> Result<()> {
    let needed = |row: &Permission| {
        row.scope != Scope::Own && matches!(row.feature, Feature::Replication | Feature::Populator)
    };
    grant(site, site, CLUSTER_ROLE, &needed, lack).await?;
    put_source(site, OF_CLUSTER).await?;
    let movers = format!("--movers={OF_CLUSTER}");
    let operator = Outside::start(site, &account(site), &site.namespace, &[&movers])?;
    is_named(site, &operator, lack).await
}

async fn put_source(site: &Site, mover: &str) -> Result<()> {
    let source = json!({"apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationSource",
        "metadata": {"name": SOURCE},
        "spec": {"sourcePVC": "absent", "trigger": {"manual": "never"}, mover: {}}});
    site.apply(source).await?;
    Ok(())
}

/// A condition names the verb and no other, or the log and a failing readiness do where none can be written.
async fn is_named(site: &Site, operator: &Outside, lack: Lack) -> Result<()> {
    let wanted = lack.complaint();
    if lack.is_essential() {
        return operator.is_not_ready(&wanted).await;
    }
    let what = format!("a condition Forbidden that {wanted}");
    wait_for(&what, CAP, || async {
        let source = site.get("ReplicationSource", SOURCE).await?;
        let found = condition(&source, "Forbidden").and_then(|found| text(found, "/message"));
        Ok(match found {
            Some(words) if words.contains(&wanted) => Look::Done(()),
            other => Look::NotYet(format!("{other:?}; {}", operator.last_words())),
        })
    })
    .await
}

type Kinds = (&'static str, &'static str);
const ROLE: Kinds = ("Role", "RoleBinding");
const CLUSTER_ROLE: Kinds = ("ClusterRole", "ClusterRoleBinding");

/// The user whom the operator of a site works as.
fn account(site: &Site) -> String {
    format!("system:serviceaccount:{}:{ACCOUNT}", site.namespace)
}

/// Gives the account of `whose` the rows that it needs here, except the verb that is to be lacking.
async fn grant(
    here: &Site,
    whose: &Site,
    (role, binding): Kinds,
    needed: &(dyn Fn(&Permission) -> bool + Sync),
    lack: Lack,
) -> Result<()> {
    let rules: Vec<Value> = PERMISSIONS
        .iter()
        .filter(|row| needed(row))
        .filter_map(|row| rule(row, lack))
        .collect();
    let version = "rbac.authorization.k8s.io/v1";
    let metadata = json!({"name": whose.namespace});
    here.apply(
        json!({"apiVersion": version, "kind": binding, "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": whose.namespace},
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": whose.namespace}]}),
    )
    .await?;
    here.apply(json!({"apiVersion": version, "kind": role, "metadata": metadata, "rules": rules}))
        .await?;
    Ok(())
}

/// A row as a rule, without the verb that is lacking.
fn rule(row: &Permission, lack: Lack) -> Option<Value> {
    let verbs: Vec<&str> = row
        .verbs
        .iter()
        .copied()
        .filter(|verb| !(row == lack.row && *verb == lack.verb))
        .collect();
    (!verbs.is_empty()).then(|| {
        let names = (!row.names.is_empty()).then_some(row.names);
        json!({"apiGroups": [row.group], "resources": [row.resource], "verbs": verbs, "resourceNames": names})
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn no_permission_is_missing_and_none_is_granted_in_vain() -> Result<()> {
    let _turn = turn().await;
    needs::PARTS.shared(Who::Caller).await?;
    // Without it this is not the cluster of tests/cluster, as `needs` has said.
    let Some(program) = std::env::var_os("SYNCLINE_E2E_CLUSTER") else {
        return Ok(());
    };
    let output = Command::new(program).arg("audit-log").output()?;
    let path = String::from_utf8(output.stdout)?;
    let log =
        std::fs::read_to_string(path.trim()).with_context(|| format!("cannot read {path}"))?;
    let requests: Vec<Value> = log
        .lines()
        .filter(|line| line.contains(OPERATOR))
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|event| text(event, "/user/username") == Some(OPERATOR))
        .collect();
    // A namespace that ends refuses what is new in it, too, but not for want of a permission.
    let refused = requests.iter().find(|request| {
        let decision = "/annotations/authorization.k8s.io~1decision";
        text(request, decision).is_some_and(|decision| decision != "allow")
    });
    ensure!(refused.is_none(), "not allowed: {refused:?}");
    let used: BTreeSet<_> = requests.iter().flat_map(uses).collect();
    ensure!(
        !used.is_empty(),
        "the operator asked for nothing at all in {path}"
    );
    let idle: Vec<String> = PERMISSIONS
        .iter()
        .filter(|row| row.unseen.is_none() && row.feature != Feature::PullSecrets)
        .flat_map(|row| row.verbs.iter().map(move |verb| (row, *verb)))
        .filter(|(row, verb)| {
            !used.contains(&(
                (*verb).to_owned(),
                row.group.to_owned(),
                row.resource.to_owned(),
            ))
        })
        .map(|(row, verb)| format!("{verb} {}", row.full_resource()))
        .collect();
    ensure!(
        idle.is_empty(),
        "granted, but used by no test of this run: {}",
        idle.join(", ")
    );
    Ok(())
}

/// What a request of the operator used: verb, group, and resource with its subresource.
fn uses(event: &Value) -> Vec<(String, String, String)> {
    let word = |pointer| text(event, pointer).unwrap_or_default();
    let code = event
        .pointer("/responseStatus/code")
        .and_then(Value::as_u64);
    if code == Some(403) {
        return Vec::new();
    }
    let resource = match word("/objectRef/subresource") {
        "" => word("/objectRef/resource").to_owned(),
        sub => format!("{}/{sub}", word("/objectRef/resource")),
    };
    let group = word("/objectRef/apiGroup").to_owned();
    let mut all = vec![(word("/verb").to_owned(), group.clone(), resource.clone())];
    // Applying what is not there takes `create` as well.
    if word("/verb") == "patch" && code == Some(201) {
        all.push(("create".to_owned(), group, resource));
    }
    all
}
