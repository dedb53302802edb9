//! A pod that looks into a volume of a real cluster for as long as one look takes, so that nothing the product does
//! ever meets it: no volume stays in use, and no mover is placed where it was.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::cluster::Real;
use crate::scenario::{PSA_ENFORCE, Site};
use crate::wait::{Look, wait_for};

/// How tar keeps everything: attributes, ACLs, holes, numbers of owners, nanoseconds.
const WHOLE: [&str; 6] = [
    "--xattrs",
    "--xattrs-include=*",
    "--acls",
    "--sparse",
    "--numeric-owner",
    "--format=posix",
];
/// Where the pod sees the volume.
const DATA: &str = "/data";
/// Where the pod sees a device.
const DEVICE: &str = "/dev/block";
/// What offsets in a device are multiples of.
const DEVICE_BLOCK: u64 = 4096;
/// For how long the pod stays when nobody removes it, in seconds.
const LIFETIME: &str = "900";

/// The running pod.
pub(crate) struct Toolbox<'a> {
    site: &'a Site,
    cluster: &'a Real,
    pod: String,
}

impl<'a> Toolbox<'a> {
    /// Starts the pod with this claim's volume.
    pub(crate) async fn open(site: &'a Site, cluster: &'a Real, claim: &str) -> Result<Self> {
        let place = json!({"volumeMounts": [{"name": "data", "mountPath": DATA}]});
        Self::start(site, cluster, (claim, place)).await
    }

    /// Starts the pod with this claim's device.
    pub(crate) async fn of_disk(site: &'a Site, cluster: &'a Real, claim: &str) -> Result<Self> {
        let place = json!({"volumeDevices": [{"name": "data", "devicePath": DEVICE}]});
        Self::start(site, cluster, (claim, place)).await
    }

    async fn start(
        site: &'a Site,
        cluster: &'a Real,
        (claim, place): (&str, Value),
    ) -> Result<Self> {
        let pod = format!("toolbox-{:08x}", rand::random::<u32>());
        let manifest = over(manifest(&pod, claim, &cluster.image()?), place);
        admit(site, manifest).await?;
        site.wait("Pod", &pod, "a running container", |pod| {
            (pod.pointer("/status/phase").and_then(Value::as_str) == Some("Running")).then_some(())
        })
        .await?;
        Ok(Self { site, cluster, pod })
    }

    /// Removes the pod and waits until it is gone.
    pub(crate) async fn close(self) -> Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.site.client.clone(), &self.site.namespace);
        let at_once = DeleteParams::default().grace_period(0);
        pods.delete(&self.pod, &at_once).await?;
        self.site.wait_gone("Pod", &self.pod).await
    }

    /// Copies everything in the volume, its root included, into this empty folder.
    pub(crate) fn pull(&self, folder: &Path) -> Result<()> {
        let mut far = self.exec(&[&["tar", "--create", "-C", DATA], &WHOLE[..], &["."]].concat());
        let mut near = Command::new("tar");
        near.args(["--extract", "--preserve-permissions", "-C"])
            .arg(folder)
            .args(&WHOLE[..5]);
        pipe(&mut far, &mut near)
    }

    /// Makes the volume hold what this folder holds, and nothing else.
    pub(crate) fn push(&self, folder: &Path) -> Result<()> {
        let emptied = self
            .exec(&["find", DATA, "-mindepth", "1", "-delete"])
            .output()?;
        ensure!(
            emptied.status.success(),
            "cannot empty the volume: {}",
            String::from_utf8_lossy(&emptied.stderr)
        );
        let archive = Command::new("tar")
            .args(["--create", "-C"])
            .arg(folder)
            .args(WHOLE)
            .arg(".")
            .output()?;
        ensure!(
            archive.status.success(),
            "cannot read {}: {}",
            folder.display(),
            String::from_utf8_lossy(&archive.stderr)
        );
        // Tar reads to the end of its input, so something that knows how much comes stands before it.
        let extract = format!(
            "head -c {} | tar --extract --preserve-permissions -C {DATA} '{}'",
            archive.stdout.len(),
            WHOLE[..5].join("' '")
        );
        self.feed(&["sh", "-c", &extract], &archive.stdout)?;
        Ok(())
    }

    /// Writes to the device at this offset.
    pub(crate) fn put(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let seek = format!("seek={}", offset / DEVICE_BLOCK);
        let (of, size) = (format!("of={DEVICE}"), format!("bs={DEVICE_BLOCK}"));
        let count = format!("count={}", bytes.len());
        let line = [
            "dd",
            &of,
            &size,
            &seek,
            &count,
            "conv=notrunc,fsync",
            "iflag=fullblock,count_bytes",
        ];
        let words = self.feed(&line, bytes)?;
        // A stream that is cut off ends like one that is complete.
        let whole = format!("{} bytes", bytes.len());
        ensure!(
            words.contains(&whole),
            "not all {whole} came to the device: {words}"
        );
        Ok(())
    }

    /// The SHA-256 of all bytes of the device, in hexadecimal digits. The bytes themselves would take seconds through
    /// `kubectl exec`, which breaks off a long answer now and then on a busy machine.
    pub(crate) fn hash(&self) -> Result<String> {
        let output = self.exec(&["sha256sum", DEVICE]).output()?;
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "cannot read the device: {words}");
        let said = String::from_utf8_lossy(&output.stdout);
        let hash = said.split_whitespace().next();
        hash.map(str::to_owned)
            .with_context(|| format!("sha256sum said {said:?}"))
    }

    /// Bytes of all files in the volume.
    pub(crate) fn bytes(&self) -> Result<u64> {
        let output = self
            .exec(&["du", "--summarize", "--bytes", DATA])
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        said.split_whitespace()
            .next()
            .and_then(|number| number.parse().ok())
            .with_context(|| {
                format!(
                    "du said {said:?}: {}",
                    String::from_utf8_lossy(&output.stderr)
                )
            })
    }

    /// Runs a program in the pod that knows by itself how many bytes it gets, and returns what it said on its error
    /// output.
    fn feed(&self, line: &[&str], bytes: &[u8]) -> Result<String> {
        // Containerd closes the input of a program that closes its output, as dd does. A shell keeps it open.
        let shell = ["sh", "-c", "\"$@\"; exit $?", "sh"];
        let mut child = self
            .exec(&[&shell[..], line].concat())
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut input = child.stdin.take().context("no input")?;
        input.write_all(bytes)?;
        // The end of the input overtakes what is still on its way to the pod, so it does not come before the program's end.
        let output = child.wait_with_output()?;
        drop(input);
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{line:?}: {words}");
        Ok(words.into_owned())
    }

    fn exec(&self, line: &[&str]) -> Command {
        let namespace = self.site.namespace.as_str();
        let exec = ["exec", "-i", "-n", namespace, &self.pod, "--"];
        self.cluster.kubectl(&[&exec[..], line].concat())
    }
}

/// Makes the pod, which is root's: a namespace that forbids that allows it for the moment.
async fn admit(site: &Site, manifest: Value) -> Result<()> {
    let namespace = site.get("Namespace", &site.namespace).await?;
    let labels = namespace.pointer("/metadata/labels");
    let level = labels.and_then(|labels| labels.get(PSA_ENFORCE)?.as_str());
    if level != Some("restricted") {
        site.apply(manifest).await?;
        return Ok(());
    }
    site.enforce("baseline").await?;
    // The admission learns of it a moment later.
    let made = wait_for("the toolbox to be admitted", site.cap, || async {
        site.apply(manifest.clone()).await?;
        Ok(Look::Done(()))
    })
    .await;
    site.enforce("restricted").await?;
    made
}

/// Runs both with the first one's output as the second one's input.
fn pipe(from: &mut Command, to: &mut Command) -> Result<()> {
    let mut first = from
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let output = first.stdout.take().context("no output")?;
    let second = to.stdin(Stdio::from(output)).output()?;
    let first = first.wait_with_output()?;
    ensure!(
        first.status.success() && second.status.success(),
        "{from:?} | {to:?}: {}{}",
        String::from_utf8_lossy(&first.stderr),
        String::from_utf8_lossy(&second.stderr)
    );
    Ok(())
}

/// The pod with what is to be known of its only container's volume.
fn over(mut pod: Value, place: Value) -> Value {
    let container = pod.pointer_mut("/spec/containers/0");
    if let (Some(Value::Object(container)), Value::Object(place)) = (container, place) {
        container.extend(place);
    }
    pod
}

fn manifest(name: &str, claim: &str, image: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "containers": [{
                "name": "toolbox",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "command": ["sleep", LIFETIME],
                "securityContext": {"runAsUser": 0, "runAsNonRoot": false, "allowPrivilegeEscalation": false},
            }],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
        },
    })
}
