//! The operator's permissions: each one that is taken away is named. tests/audit tells that none is missing and none was
//! granted in vain.

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream, try_join};
use serde_json::{Value, json};
use syncline_operator::permissions::{Feature, PERMISSIONS, Permission, Scope};
use syncline_testkit::fixture;
use syncline_testkit::scenario::{CAP, Stage};
use syncline_testkit::wait::{Look, wait_for};
use syncline_testkit::{Site, Who, scenario};
use syncline_tests::parts::{
    condition, destination, fill_plain, image_after, listening, manually, must_be_alike, source,
    synced, text, tree_of_image,
};

use crate::outside::Outside;
use crate::system::System;
use crate::{needs, turn};

/// Operators of one namespace each that run at once.
const AT_ONCE: usize = 8;
/// The mover whose resources the operators of the whole cluster look after. Those of one namespace have resources of another
/// mover to complain in, so that none takes back what another one said; that it is not to be had changes nothing here.
const OF_CLUSTER: &str = "rsync";
const OF_NAMESPACE: &str = "restic";
const ACCOUNT: &str = "operator";
/// The source in whose condition the operator complains.
const SOURCE: &str = "watched";

/// What the operator tells events as.
const EVENTS: &str = "events.events.k8s.io";

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
        &|row| row.scope == Scope::Tenant && [Feature::Replication, feature].contains(&row.feature),
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

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_may_not_tell_events_says_so_and_replicates_all_the_same() -> Result<()> {
    let _turn = turn().await;
    let place = needs::DEPLOYMENT.shared(Who::Caller).await?;
    scenario(place, "silent", |stage| async move {
        let system = System::of(&stage.cluster).await?;
        let image = system.image().await?;
        // The installed operator has all the rights.
        system.scale(0).await?;
        let outcome = replicates_in_silence(&stage, &image).await;
        system.scale(1).await?;
        outcome
    })
    .await
}

async fn replicates_in_silence(stage: &Stage, image: &str) -> Result<()> {
    let site = stage.site("both").await?;
    let lack = Lack::all()
        .find(|lack| (lack.verb, lack.row.full_resource().as_str()) == ("create", EVENTS))
        .context("no such permission")?;
    let needed =
        |row: &Permission| (row.scope, row.feature) == (Scope::Tenant, Feature::Replication);
    grant(&site, &site, ROLE, &needed, lack).await?;
    let watched = format!("--watch-namespace={}", site.namespace);
    let image = format!("--rsync-container-image={image}");
    let arguments = [watched.as_str(), image.as_str()];
    let operator = Outside::start(&site, &account(&site), &site.namespace, &arguments)?;
    let data = site.volume("data").await?;
    fill_plain(&data, 10, 1).await?;
    site.apply(destination(SOURCE, json!({}))).await?;
    let peer = listening(&site, SOURCE).await?;
    site.apply(manually(source(SOURCE, "data", &peer, json!({})), "once"))
        .await?;
    synced(&site, SOURCE, "once").await?;
    let image = image_after(&site, SOURCE, None).await?;
    must_be_alike(&data.tree().await?, &tree_of_image(&site, &image).await?)?;
    is_named(&site, &operator, lack).await?;
    for event in site.list("Event").await? {
        let about = text(&event, "/involvedObject/kind").unwrap_or_default();
        ensure!(!about.starts_with("Replication"), "it told {event}");
    }
    Ok(())
}

async fn put_source(site: &Site, mover: &str) -> Result<Value> {
    let source = json!({"apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationSource",
        "metadata": {"name": SOURCE},
        "spec": {"sourcePVC": "absent", "trigger": {"manual": "never"}, mover: {}}});
    site.apply(source).await
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

/// The rights to name an object as the owner of another one that holds its deletion up.
fn rights_to_own() -> impl Iterator<Item = Lack> {
    Lack::all().filter(|lack| lack.row.resource.ends_with("/finalizers"))
}

/// The API server asks for these within other requests, so that no audit log shows them.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_its_finalizers_nothing_is_owned_by_an_object() -> Result<()> {
    let _turn = turn().await;
    let place = needs::DEPLOYMENT.shared(Who::Caller).await?;
    scenario(place, "owners", |stage| async move {
        let site = stage.site("owners").await?;
        let owners = [
            put_source(&site, OF_NAMESPACE).await?,
            site.apply(fixture::claim(SOURCE, "1Gi", None)).await?,
            site.apply(destination(SOURCE, json!({}))).await?,
        ];
        let owner_of = |lack: &Lack| {
            let kind = match lack.row.resource {
                "replicationsources/finalizers" => 0,
                "persistentvolumeclaims/finalizers" => 1,
                _ => 2,
            };
            &owners[kind]
        };
        let tenants = |row: &Permission| row.scope == Scope::Tenant;
        for lack in rights_to_own() {
            grant(&site, &site, ROLE, &tenants, lack).await?;
            for other in rights_to_own() {
                let allowed = other.row != lack.row;
                may_own(&site, owner_of(&other), allowed)
                    .await
                    .with_context(|| lack.name())?;
            }
        }
        Ok(())
    })
    .await
}

/// Waits until the operator's account may, or may not, make a Secret of this owner.
async fn may_own(site: &Site, owner: &Value, allowed: bool) -> Result<()> {
    let field = |pointer| text(owner, pointer).context("an owner without a name");
    let reference = json!({"apiVersion": field("/apiVersion")?, "kind": field("/kind")?,
        "name": field("/metadata/name")?, "uid": field("/metadata/uid")?, "blockOwnerDeletion": true});
    let owned = json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "owned", "ownerReferences": [reference]}});
    let file = site.cluster.scratch().join("owned.json");
    std::fs::write(&file, owned.to_string())?;
    let file = file.to_str().context("a path that is no text")?;
    let user = format!("--as={}", account(site));
    let create = ["create", "--dry-run=server", "-n", &site.namespace, &user];
    let real = site.cluster.real()?;
    // Roles take effect a moment after they are written.
    wait_for("the right to own, or its lack", CAP, || async {
        let output = real
            .kubectl(&[&create[..], &["--filename", file]].concat())
            .output()?;
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        let refused = words.contains("cannot set blockOwnerDeletion");
        Ok(
            if output.status.success() == allowed && refused != allowed {
                Look::Done(())
            } else {
                Look::NotYet(format!("{owned}: {words}"))
            },
        )
    })
    .await
}
