//! Stock kubectl drives the server over TLS: the commands of everyday use, and what they print.

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Output, Stdio};
    use std::sync::Arc;

    use syncline_embedded::{Cluster, Config, clock::SystemClock};

    /// kubectl with a kubeconfig and a home of its own.
    struct Kubectl {
        binary: PathBuf,
        kubeconfig: PathBuf,
        home: PathBuf,
    }

    impl Kubectl {
        fn new(kubeconfig: &Path, home: &Path) -> Self {
            let script =
                Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tools/fetch-kubectl");
            let output = Command::new(script)
                .stderr(Stdio::inherit())
                .output()
                .unwrap();
            assert!(output.status.success(), "kubectl could not be fetched");
            let binary = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
            Self {
                binary,
                kubeconfig: kubeconfig.to_owned(),
                home: home.to_owned(),
            }
        }

        fn run(&self, arguments: &str, input: &str) -> Output {
            let mut child = Command::new(&self.binary)
                .args(words(arguments))
                .env("KUBECONFIG", &self.kubeconfig)
                .env("HOME", &self.home)
                .env("KUBE_EDITOR", "sed -i s/x/z/")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            child
                .stdin
                .take()
                .unwrap()
                .write_all(input.as_bytes())
                .unwrap();
            child.wait_with_output().unwrap()
        }

        /// What a command prints; it must succeed.
        fn prints(&self, arguments: &str, input: &str) -> String {
            let output = self.run(arguments, input);
            let (out, err) = texts(&output);
            assert!(output.status.success(), "kubectl {arguments}\n{out}{err}");
            out
        }

        /// What a command complains of; it must fail.
        fn complains(&self, arguments: &str, input: &str) -> String {
            let output = self.run(arguments, input);
            let (out, err) = texts(&output);
            assert!(
                !output.status.success(),
                "kubectl {arguments} succeeded\n{out}{err}"
            );
            err
        }
    }

    /// Words as a shell parts them; quotes keep blanks.
    fn words(text: &str) -> Vec<String> {
        let mut words = Vec::new();
        let mut word = String::new();
        let mut quoted = false;
        for letter in text.chars() {
            match letter {
                '\'' => quoted = !quoted,
                ' ' if !quoted => words.push(std::mem::take(&mut word)),
                other => word.push(other),
            }
        }
        words.push(word);
        words.retain(|word| !word.is_empty());
        words
    }

    fn texts(output: &Output) -> (String, String) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&output.stdout), text(&output.stderr))
    }

    const ONE: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: one}\ndata: {a: \"1\"}\n";

    /// Starts a cluster and runs the commands beside the runtime.
    async fn with_kubectl(commands: fn(&Kubectl)) {
        let folder = tempfile::tempdir().unwrap();
        let home = tempfile::tempdir().unwrap();
        let cluster = Cluster::start(Config::new(folder.path()), Arc::new(SystemClock))
            .await
            .unwrap();
        let kubectl = Kubectl::new(cluster.kubeconfig(), home.path());
        tokio::task::spawn_blocking(move || commands(&kubectl))
            .await
            .unwrap();
        cluster.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn typed_creates_and_reviews_are_understood_in_protobuf() {
        with_kubectl(|kubectl| {
            assert_eq!(
                kubectl.prints("create namespace wire", ""),
                "namespace/wire created\n"
            );
            assert_eq!(
                kubectl.prints("-n wire create configmap c --from-literal=a=b", ""),
                "configmap/c created\n"
            );
            assert_eq!(
                kubectl.prints("-n wire create secret generic s --from-literal=k=v", ""),
                "secret/s created\n"
            );
            assert_eq!(
                kubectl.prints("-n wire get secret s -o jsonpath={.data.k}", ""),
                "dg=="
            );
            assert_eq!(
                kubectl.prints("-n wire create serviceaccount a", ""),
                "serviceaccount/a created\n"
            );
            assert_eq!(
                kubectl.prints("-n wire create service clusterip v --tcp=22:8022", ""),
                "service/v created\n"
            );
            assert_eq!(
                kubectl.prints(
                    "-n wire get service v -o jsonpath={.spec.ports[0].targetPort}",
                    ""
                ),
                "8022"
            );
            let role = "-n wire create role r --verb=get,list --resource=secrets";
            assert_eq!(
                kubectl.prints(role, ""),
                "role.rbac.authorization.k8s.io/r created\n"
            );
            let job = "-n wire create job j --image=none.example/x:1 -- sleep 1";
            assert_eq!(kubectl.prints(job, ""), "job.batch/j created\n");
            assert_eq!(
                kubectl.prints(
                    "-n wire get job j -o jsonpath={.spec.template.spec.restartPolicy}",
                    ""
                ),
                "Never"
            );
            assert_eq!(kubectl.prints("auth can-i create secrets", ""), "yes\n");
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn apply_and_its_kin_create_change_and_leave_alone() {
        with_kubectl(|kubectl| {
            let two = ONE.replace("\"1\"", "\"2\"");
            assert_eq!(kubectl.prints("apply -f -", ONE), "configmap/one created\n");
            assert_eq!(
                kubectl.prints("apply -f -", &two),
                "configmap/one configured\n"
            );
            assert_eq!(
                kubectl.prints("apply -f -", &two),
                "configmap/one unchanged\n"
            );
            let dry = kubectl.prints(
                "apply -f - --dry-run=server",
                &ONE.replace("\"1\"", "\"7\""),
            );
            assert_eq!(dry, "configmap/one configured (server dry run)\n");
            assert_eq!(kubectl.prints("get cm one -o jsonpath={.data.a}", ""), "2");
            let difference = kubectl.run("diff -f -", &ONE.replace("\"1\"", "\"9\""));
            assert_eq!(difference.status.code(), Some(1));
            assert!(
                texts(&difference).0.contains("-  a: \"2\"\n+  a: \"9\""),
                "{difference:?}"
            );
            assert_eq!(
                kubectl.prints("label cm one x=y", ""),
                "configmap/one labeled\n"
            );
            assert_eq!(
                kubectl.prints("annotate cm one n=v", ""),
                "configmap/one annotated\n"
            );
            let patch = "patch cm one --type=merge -p '{\"data\":{\"b\":\"x\"}}'";
            assert_eq!(kubectl.prints(patch, ""), "configmap/one patched\n");
            assert_eq!(kubectl.prints("edit cm one", ""), "configmap/one edited\n");
            assert_eq!(kubectl.prints("get cm one -o jsonpath={.data.b}", ""), "z");
            assert_eq!(
                kubectl.prints("replace -f -", ONE),
                "configmap/one replaced\n"
            );
            let exists = kubectl.complains("create -f -", ONE);
            assert!(
                exists.contains("configmaps \"one\" already exists"),
                "{exists}"
            );
            assert_eq!(
                kubectl.prints("delete cm one --wait=true", ""),
                "configmap \"one\" deleted from default namespace\n"
            );
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_got_as_a_list_is_applied_as_one() {
        with_kubectl(|kubectl| {
            kubectl.prints("apply -f -", ONE);
            kubectl.prints("create secret generic two --from-literal=k=v", "");
            let both = kubectl.prints("get cm/one secret/two -o yaml", "");
            assert!(both.contains("kind: List"), "{both}");
            kubectl.prints("delete cm/one secret/two", "");
            assert_eq!(
                kubectl.prints("apply -f -", &both),
                "configmap/one created\nsecret/two created\n"
            );
            let wrong = both.replace("\n  data:", "\n  dta:");
            let refused = kubectl.complains("apply -f -", &wrong);
            assert!(refused.contains("unknown field \"dta\""), "{refused}");
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn server_side_apply_names_who_holds_a_field() {
        with_kubectl(|kubectl| {
            let two = ONE.replace("\"1\"", "\"3\"");
            assert_eq!(
                kubectl.prints("apply --server-side -f -", ONE),
                "configmap/one serverside-applied\n"
            );
            let conflict =
                kubectl.complains("apply --server-side --field-manager=other -f -", &two);
            assert!(
                conflict
                    .contains("Apply failed with 1 conflict: conflict with \"kubectl\": .data.a"),
                "{conflict}"
            );
            let force = "apply --server-side --force-conflicts --field-manager=other -f -";
            assert_eq!(
                kubectl.prints(force, &two),
                "configmap/one serverside-applied\n"
            );
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn objects_are_shown_as_tables_and_described() {
        with_kubectl(|kubectl| {
            kubectl.prints("apply -f -", ONE);
            let table = kubectl.prints("get cm one", "");
            assert_eq!(table.lines().next(), Some("NAME   DATA   AGE"));
            assert!(table.contains("\none    1      "), "{table}");
            assert!(kubectl.prints("get cm one --show-labels", "").contains("<none>"));
            assert!(kubectl.prints("get cm -o name", "").contains("configmap/one\n"));
            assert!(kubectl.prints("get cm one -o yaml", "").contains("\ndata:\n  a: \"1\"\n"));
            let described = kubectl.prints("describe cm one", "");
            assert!(described.starts_with("Name:         one\nNamespace:    default\n"), "{described}");
            assert!(described.contains("Data\n====\na:\n----\n1\n"), "{described}");
            assert!(kubectl.complains("get cm none", "").contains("configmaps \"none\" not found"));
            assert!(kubectl.complains("get nopes", "").contains("doesn't have a resource type \"nopes\""));
            assert!(kubectl.prints("get ns", "").contains("default       Active"));
            let claim = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: d}\nspec: {storageClassName: none, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}\n";
            kubectl.prints("apply -f -", claim);
            let table = kubectl.prints("get pvc", "");
            let head = "NAME   STATUS    VOLUME   CAPACITY   ACCESS MODES   STORAGECLASS   VOLUMEATTRIBUTESCLASS   AGE";
            assert_eq!(table.lines().next(), Some(head));
            let refused = kubectl.complains("apply -f -", &claim.replace("1Gi", "2Gi"));
            assert!(refused.contains("spec is immutable after creation except resources.requests"), "{refused}");
            assert!(refused.contains("-   \"storage\": \"1Gi\"\n+   \"storage\": \"2Gi\""), "{refused}");
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn discovery_and_schemas_are_enough_for_explain_and_validation() {
        with_kubectl(|kubectl| {
            assert!(kubectl.prints("version", "").contains("Server Version: v1.36.3"));
            let resources = kubectl.prints("api-resources --api-group=batch", "");
            assert_eq!(resources, "NAME   SHORTNAMES   APIVERSION   NAMESPACED   KIND\njobs                batch/v1     true         Job\n");
            assert!(kubectl.prints("api-versions", "").contains("storage.k8s.io/v1\n"));
            let explained = kubectl.prints("explain configmap.data", "");
            assert!(explained.contains("FIELD: data <map[string]string>"), "{explained}");
            assert!(explained.contains("Data contains the configuration data."), "{explained}");
            let deep = kubectl.prints("explain pod.spec.containers.env.valueFrom", "");
            assert!(deep.contains("secretKeyRef"), "{deep}");
            let snapshots = kubectl.prints("explain volumesnapshot.spec.source", "");
            assert!(snapshots.contains("persistentVolumeClaimName"), "{snapshots}");
            let unknown = kubectl.complains("create -f -", &ONE.replace("data:", "dat:"));
            assert!(unknown.contains("unknown field \"dat\""), "{unknown}");
        })
        .await;
    }

    const WIDGETS: &str = r"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.rec.example}
spec:
  group: rec.example
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, shortNames: [wd]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    additionalPrinterColumns:
    - {name: Mode, type: string, jsonPath: .spec.mode}
    - {name: Size, type: integer, jsonPath: .spec.size, priority: 1}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              mode: {type: string, default: a, enum: [a, b], description: How it goes.}
              size: {type: integer}
          status:
            type: object
            x-kubernetes-preserve-unknown-fields: true
";

    #[tokio::test(flavor = "multi_thread")]
    async fn custom_kinds_are_served_with_their_columns_and_schemas() {
        with_kubectl(|kubectl| {
            kubectl.prints("apply -f -", WIDGETS);
            kubectl.prints(
                "wait --for=condition=Established crd/widgets.rec.example --timeout=10s",
                "",
            );
            let widget =
                "apiVersion: rec.example/v1\nkind: Widget\nmetadata: {name: w}\nspec: {size: 3}\n";
            assert_eq!(
                kubectl.prints("apply -f -", widget),
                "widget.rec.example/w created\n"
            );
            let changed = widget.replace("size: 3", "size: 4");
            assert_eq!(
                kubectl.prints("apply -f -", &changed),
                "widget.rec.example/w configured\n"
            );
            assert_eq!(kubectl.prints("get wd", ""), "NAME   MODE\nw      a\n");
            assert_eq!(
                kubectl.prints("get wd -o wide", ""),
                "NAME   MODE   SIZE\nw      a      4\n"
            );
            assert!(
                kubectl
                    .prints("explain widget.spec.mode", "")
                    .contains("How it goes.")
            );
            let wrong = kubectl.complains("apply -f -", &widget.replace("size: 3", "mode: c"));
            assert!(
                wrong.contains(
                    "spec.mode: Unsupported value: \"c\": supported values: \"a\", \"b\""
                ),
                "{wrong}"
            );
            let status =
                "patch widget w --subresource=status --type=merge -p '{\"status\":{\"n\":1}}'";
            assert_eq!(kubectl.prints(status, ""), "widget.rec.example/w patched\n");
            kubectl.prints(
                "wait --for=jsonpath={.status.n}=1 widget/w --timeout=10s",
                "",
            );
            assert!(kubectl.prints("describe widget w", "").contains("Mode:  a"));
            assert_eq!(
                kubectl.prints("delete widget w", ""),
                "widget.rec.example \"w\" deleted from default namespace\n"
            );
            kubectl.prints("delete crd widgets.rec.example", "");
        })
        .await;
    }
}
