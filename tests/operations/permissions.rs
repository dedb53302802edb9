//! The operator's permissions: each one that is taken away is named, and none was granted in vain.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use syncline_operator::permissions::{Feature, PERMISSIONS, Permission, Scope};
use syncline_testkit::scenario::CAP;
use syncline_testkit::wait::{Look, wait_for};
use syncline_testkit::{Site, Who, scenario};
use syncline_tests::parts::{condition, text};

use crate::system::System;
use crate::{needs, turn};

/// Operators of one namespace each that run at once.
const AT_ONCE: usize = 10;
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
    fn name(self) -> String {
        format!("without {} {}", self.verb, self.row.full_resource())
    }
}

/// An operator beside the cluster, with the rights of a service account.
struct Outside {
    child: Child,
    log: PathBuf,
}

impl Drop for Outside {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
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
        let outcome = async {
            let alone =
                lacks(|row| row.scope == Scope::Tenant && row.feature == Feature::Replication);
            let stage = &stage;
            stream::iter(alone.into_iter().enumerate())
                .map(|(number, lack)| async move {
                    let site = stage.site(&format!("r{number}")).await?;
                    is_named(&site, lack, true).await.context(lack.name())
                })
                .buffer_unordered(AT_ONCE)
                .try_collect::<Vec<()>>()
                .await?;
            // These see the whole cluster, so there is one of them at a time.
            let whole =
                lacks(|row| row.scope != Scope::Tenant && row.feature != Feature::PullSecrets);
            for (number, lack) in whole.into_iter().enumerate() {
                let site = stage.site(&format!("c{number}")).await?;
                let named = is_named(&site, lack, false).await;
                let kubectl = stage.cluster.real()?;
                let role = &site.namespace;
                kubectl.kubectl_says(&["delete", "clusterrole,clusterrolebinding", role])?;
                named.context(lack.name())?;
            }
            anyhow::Ok(())
        }
        .await;
        system.scale(1).await?;
        outcome
    })
    .await
}

fn lacks(chosen: impl Fn(&Permission) -> bool) -> Vec<Lack> {
    PERMISSIONS
        .iter()
        .filter(|row| chosen(row))
        .flat_map(|row| row.verbs.iter().map(move |verb| Lack { row, verb }))
        .collect()
}

/// Starts an operator without one verb: a condition names it, or the log and a failing readiness where none can be written.
async fn is_named(site: &Site, lack: Lack, alone: bool) -> Result<()> {
    let source = json!({"apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationSource",
        "metadata": {"name": SOURCE, "namespace": site.namespace},
        "spec": {"sourcePVC": "absent", "trigger": {"manual": "never"}, "rsync": {"copyMethod": "Direct", "address": "192.0.2.1"}}});
    site.apply(source).await?;
    let kubeconfig = grant_all_but(site, lack, alone)?;
    let operator = start(site, &kubeconfig, alone)?;
    let wanted = format!("{} {} (", lack.verb, lack.row.full_resource());
    if is_essential(lack) {
        return is_not_ready(&operator, &wanted).await;
    }
    wait_for(
        &format!("a condition Forbidden that names {wanted}…)"),
        CAP,
        || async {
            let source = site.get("ReplicationSource", SOURCE).await?;
            let found = condition(&source, "Forbidden").and_then(|found| text(found, "/message"));
            Ok(match found {
                Some(words) if words.contains(&wanted) => Look::Done(()),
                other => Look::NotYet(format!("{other:?}; {}", last_words(&operator))),
            })
        },
    )
    .await
}

/// Whether no status can be written without it.
fn is_essential(lack: Lack) -> bool {
    let of_kinds =
        lack.row.resource == "replicationsources" || lack.row.resource == "replicationdestinations";
    (of_kinds && lack.verb != "patch")
        || lack.row.resource.ends_with("/status")
        || lack.row.feature == Feature::Election
}

async fn is_not_ready(operator: &Outside, wanted: &str) -> Result<()> {
    wait_for("a log line and a failing /readyz", CAP, || async {
        let log = std::fs::read_to_string(&operator.log)?;
        let address = log.split("serving health").nth(1).and_then(|rest| {
            let start = rest.split_once("127.0.0.1:")?.1;
            let port: String = start.chars().take_while(char::is_ascii_digit).collect();
            Some(format!("127.0.0.1:{port}"))
        });
        let said = log.contains("the operator lacks a permission");
        let answer = address.map_or(Ok(String::new()), |address| readiness(&address));
        let answer = answer.unwrap_or_default();
        Ok(
            if said && answer.contains(" 503 ") && answer.contains(wanted) {
                Look::Done(())
            } else {
                Look::NotYet(format!("{answer}; {}", last_words(operator)))
            },
        )
    })
    .await
}

fn readiness(address: &str) -> Result<String> {
    let mut connection = TcpStream::connect(address)?;
    connection.write_all(b"GET /readyz HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer)
}

fn last_words(operator: &Outside) -> String {
    let log = std::fs::read_to_string(&operator.log).unwrap_or_default();
    let lines: Vec<&str> = log.lines().rev().take(3).collect();
    lines.join("\n")
}

/// A service account with every permission but one; returns a kubeconfig of its.
fn grant_all_but(site: &Site, lack: Lack, alone: bool) -> Result<PathBuf> {
    let namespace = &site.namespace;
    let needed = |row: &&Permission| {
        !alone || (row.scope == Scope::Tenant && row.feature == Feature::Replication)
    };
    let rules: Vec<Value> = PERMISSIONS
        .iter()
        .filter(needed)
        .filter_map(|row| rule(row, lack))
        .collect();
    let (role, binding) = if alone {
        ("Role", "RoleBinding")
    } else {
        ("ClusterRole", "ClusterRoleBinding")
    };
    let version = "rbac.authorization.k8s.io/v1";
    let metadata = json!({"name": namespace, "namespace": alone.then_some(namespace)});
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT, "namespace": namespace}},
        {"apiVersion": version, "kind": role, "metadata": metadata, "rules": rules},
        {"apiVersion": version, "kind": binding, "metadata": metadata,
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": namespace},
         "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}]}]});
    let real = site.cluster.real()?;
    let file = real.scratch().join(format!("{namespace}.json"));
    std::fs::write(&file, objects.to_string())?;
    let path = file.to_str().context("a path that is no text")?;
    real.kubectl_says(&["apply", "--server-side", "--filename", path])?;
    let token = real.kubectl_says(&["-n", namespace, "create", "token", ACCOUNT])?;
    let view = real.kubectl_says(&["config", "view", "--raw", "--output", "json"])?;
    let mut kubeconfig: Value = serde_json::from_str(&view)?;
    for user in kubeconfig
        .get_mut("users")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Some(user) = user.as_object_mut() {
            user.insert("user".to_owned(), json!({"token": token.trim()}));
        }
    }
    let file = real.scratch().join(format!("{namespace}.kubeconfig"));
    std::fs::write(&file, kubeconfig.to_string())?;
    Ok(file)
}

/// A row as a rule, without the verb that is lacking.
fn rule(row: &Permission, lack: Lack) -> Option<Value> {
    let same = (row.group, row.resource) == (lack.row.group, lack.row.resource);
    let verbs: Vec<&str> = row
        .verbs
        .iter()
        .copied()
        .filter(|verb| !(same && *verb == lack.verb))
        .collect();
    (!verbs.is_empty()).then(|| {
        let names = (!row.names.is_empty()).then_some(row.names);
        json!({"apiGroups": [row.group], "resources": [row.resource], "verbs": verbs, "resourceNames": names})
    })
}

fn start(site: &Site, kubeconfig: &std::path::Path, alone: bool) -> Result<Outside> {
    let real = site.cluster.real()?;
    let log = real.scratch().join(format!("{}.log", site.namespace));
    let mut command: Command = site
        .cluster
        .syncline(["operator", "--health-probe-bind-address=127.0.0.1:0"]);
    if alone {
        command.arg(format!("--watch-namespace={}", site.namespace));
    } else {
        // Its lease is nobody else's.
        command.args(["--leader-elect", "--metrics-bind-address=127.0.0.1:0"]);
    }
    let child = command
        .env("KUBECONFIG", kubeconfig)
        .env("VOLSYNC_NAMESPACE", &site.namespace)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&log)?)
        .spawn()?;
    Ok(Outside { child, log })
}

#[tokio::test(flavor = "multi_thread")]
async fn no_permission_is_granted_in_vain() -> Result<()> {
    let _turn = turn().await;
    needs::PARTS.shared(Who::Caller).await?;
    let program =
        std::env::var_os("SYNCLINE_E2E_CLUSTER").context("SYNCLINE_E2E_CLUSTER is not set")?;
    let output = Command::new(program).arg("audit-log").output()?;
    let path = String::from_utf8(output.stdout)?;
    let log =
        std::fs::read_to_string(path.trim()).with_context(|| format!("cannot read {path}"))?;
    let used: BTreeSet<_> = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .flat_map(|event| uses(&event))
        .collect();
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
    if word("/user/username") != "system:serviceaccount:syncline-system:syncline"
        || code == Some(403)
    {
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
