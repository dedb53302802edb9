//! Under VolSync's definitions of the kinds: what only Syncline has is said in annotations.

use anyhow::{Context, Result, ensure};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use syncline_testkit::{Site, scenario};
use syncline_tests::parts::{Peer, destination, manually, over, source, text};

use crate::operators::{Operator, cluster, options};
use crate::volsync::install_volsyncs_definitions;

/// What only Syncline has for rsync: the field, and the annotation that stands for it.
const OURS: [(&str, &str); 3] = [
    (
        "moverSecurityContext",
        "syncline.dev/mover-security-context",
    ),
    ("moverAffinity", "syncline.dev/mover-affinity"),
    ("moverVolumes", "syncline.dev/mover-volumes"),
];

fn wishes() -> Value {
    json!({
        "moverSecurityContext": {"runAsUser": 4321, "runAsGroup": 4321, "fsGroup": 4321},
        "moverAffinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]}]}]}}},
        "moverVolumes": [{"mountPath": "certs/ca", "volumeSource": {"secret": {"secretName": "ca"}}}],
    })
}

/// Applies an object that may have no field that the server's schema lacks.
async fn strictly(site: &Site, object: &Value) -> Result<Value> {
    let (kind, name) = (text(object, "/kind"), text(object, "/metadata/name"));
    let parameters = PatchParams::apply("strict").force().validation_strict();
    let api = site.api(kind.context("no kind")?)?;
    let applied = api
        .patch(name.context("no name")?, &parameters, &Patch::Apply(object))
        .await?;
    Ok(serde_json::to_value(applied)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn annotations_are_valid_where_our_fields_are_not_and_shape_the_pod_all_the_same()
-> Result<()> {
    scenario(cluster().await?, "annotated", |stage| async move {
        install_volsyncs_definitions(&stage.cluster.client().await?).await?;
        let site = stage.site("both").await?;
        site.volume("data").await?;
        site.apply(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ca"}, "stringData": {"ca.crt": "x"}}))
            .await?;
        site.apply(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"},
            "stringData": {"source": "x", "source.pub": "y", "destination.pub": "z"}}))
            .await?;
        let operator = Operator::start(&stage.cluster, options()).await?;
        let peer = Peer { address: "127.0.0.1".to_owned(), port: 1, keys: "keys".to_owned() };
        let sends = manually(source("out", "data", &peer, json!({"copyMethod": "Direct"})), "once");
        let receives = destination("in", json!({"copyMethod": "Direct"}));
        for (resource, job) in [(sends, "volsync-rsync-src-out"), (receives, "volsync-rsync-dst-in")] {
            // The pod of such a Job is not what this is about.
            let resource = over(resource, json!({"spec": {"paused": true}}));
            no_field_is_known(&site, &resource).await?;
            let annotations: Value = OURS
                .into_iter()
                .filter_map(|(field, annotation)| Some((annotation.to_owned(), json!(wishes().get(field)?.to_string()))))
                .collect::<serde_json::Map<_, _>>()
                .into();
            strictly(&site, &over(resource, json!({"metadata": {"annotations": annotations}}))).await?;
            let job = site.wait("Job", job, "been made", |job| Some(job.clone())).await?;
            is_as_wished(job.pointer("/spec/template/spec").context("no pod")?)?;
        }
        operator.stop().await
    })
    .await
}

/// Each of the fields is refused by name, and so is not one that VolSync's definition has.
async fn no_field_is_known(site: &Site, resource: &Value) -> Result<()> {
    for (field, _) in OURS {
        let wish = json!({ field: wishes().get(field) });
        let with = over(resource.clone(), json!({"spec": {"rsync": wish}}));
        let refused = strictly(site, &with).await;
        let words = refused
            .err()
            .with_context(|| format!("{field} was taken"))?;
        let words = format!("{words:#}");
        ensure!(words.contains(field), "{words}");
    }
    Ok(())
}

fn is_as_wished(pod: &Value) -> Result<()> {
    let wished = wishes();
    ensure!(
        pod.get("securityContext") == wished.get("moverSecurityContext")
            && pod.get("affinity") == wished.get("moverAffinity"),
        "{pod}"
    );
    let named = |list: &str| {
        let all = pod.pointer(list).and_then(Value::as_array);
        all.into_iter()
            .flatten()
            .find(|entry| text(entry, "/name") == Some("u-certs-ca"))
    };
    let mounted = named("/containers/0/volumeMounts").and_then(|mount| text(mount, "/mountPath"));
    let secret = named("/volumes").and_then(|volume| text(volume, "/secret/secretName"));
    ensure!(
        (mounted, secret) == (Some("/mnt/certs/ca"), Some("ca")),
        "{pod}"
    );
    let added = pod.pointer("/containers/0/securityContext/capabilities/add");
    ensure!(added.is_none(), "an unprivileged mover has {added:?}");
    Ok(())
}
