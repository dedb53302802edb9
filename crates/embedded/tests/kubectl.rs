//! Stock kubectl drives the server over TLS. What its commands print stands in the table of `tests/api`; here is what
//! they come to.

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
}
