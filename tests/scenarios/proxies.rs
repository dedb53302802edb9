//! A proxy stands between a command and the API server.

use std::process::{Command, Output};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use syncline_testkit::cluster::Cluster;
use syncline_testkit::{Who, scenario};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

const VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"];

/// A proxy as they stand between networks: it connects to what `CONNECT` names, and writes that down.
struct Proxy {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connect(client, Arc::clone(&noted)));
            }
        });
        Ok(Self { url, asked })
    }

    fn asked(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.clone()
    }
}

async fn connect(mut client: TcpStream, asked: Arc<Mutex<Vec<String>>>) -> Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8(head)?;
    let target = head
        .strip_prefix("CONNECT ")
        .and_then(|rest| rest.split_whitespace().next())
        .context("no CONNECT")?;
    asked
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(target.to_owned());
    let mut server = TcpStream::connect(target).await?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

/// `syncline get` with these variables, and no others about proxies.
fn command(cluster: &Cluster, variables: &[(&str, &str)]) -> Command {
    let mut command = cluster.syncline(["get", "replicationsource", "--all-namespaces"]);
    for name in VARIABLES {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied());
    command
}

async fn succeeds(mut command: Command) -> Result<()> {
    let Output { status, stderr, .. } =
        tokio::task::spawn_blocking(move || command.output()).await??;
    ensure!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_go_through_the_kubeconfigs_proxy_and_around_the_environments_where_no_proxy_says_so()
-> Result<()> {
    scenario(
        Cluster::shared(Who::Caller).await?,
        "proxy",
        |stage| async move {
            let cluster = &stage.cluster;
            let proxy = Proxy::start().await?;
            let kubeconfig = std::fs::read_to_string(cluster.kubeconfig())?;
            let documents = syncline_testkit::fixture::documents(&kubeconfig)?;
            let mut document = documents.into_iter().next().context("a kubeconfig")?;
            let named = document
                .pointer_mut("/clusters/0/cluster")
                .and_then(Value::as_object_mut)
                .context("a cluster")?;
            named.insert("proxy-url".to_owned(), proxy.url.clone().into());
            let server = named
                .get("server")
                .and_then(Value::as_str)
                .context("a server")?;
            let authority = server
                .trim_start_matches("https://")
                .trim_end_matches('/')
                .to_owned();
            // JSON is YAML, too.
            let file = cluster
                .scratch()
                .join(format!("through-{}", stage.site("proxy").await?.namespace));
            std::fs::write(&file, document.to_string())?;

            let mut through = command(cluster, &[("NO_PROXY", "*")]);
            through.arg("--kubeconfig").arg(&file);
            succeeds(through).await?;
            let asked = proxy.asked();
            ensure!(
                !asked.is_empty() && asked.iter().all(|target| *target == authority),
                "{asked:?}"
            );

            // Nobody listens where the environment's proxy is said to be.
            let host = authority
                .rsplit_once(':')
                .map_or(authority.as_str(), |(host, _)| host);
            for none in [host, "*"] {
                let nowhere = TcpListener::bind(("127.0.0.1", 0)).await?.local_addr()?;
                let url = format!("http://{nowhere}");
                succeeds(command(
                    cluster,
                    &[("HTTPS_PROXY", &url), ("NO_PROXY", none)],
                ))
                .await?;
            }
            Ok(())
        },
    )
    .await
}
