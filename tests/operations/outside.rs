//! An operator beside the cluster: a process of the tests' own, with the rights of an account that they choose.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use syncline_testkit::Site;
use syncline_testkit::scenario::CAP;
use syncline_testkit::wait::{Look, wait_for};

/// One such operator; it ends with the value.
pub(crate) struct Outside {
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

impl Outside {
    /// Starts one that works as `user` and takes `home` for its own namespace.
    pub(crate) fn start(site: &Site, user: &str, home: &str, arguments: &[&str]) -> Result<Self> {
        let scratch = site.cluster.scratch();
        let log = scratch.join(format!("{}.log", site.namespace));
        let kubeconfig = scratch.join(format!("{}.kubeconfig", site.namespace));
        std::fs::write(&kubeconfig, kubeconfig_of(site, user)?)?;
        let mut command: Command = site
            .cluster
            .syncline(["operator", "--health-probe-bind-address=127.0.0.1:0"]);
        let child = command
            .args(arguments)
            .env("KUBECONFIG", kubeconfig)
            .env("VOLSYNC_NAMESPACE", home)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()?;
        Ok(Self { child, log })
    }

    /// Waits for a line in the log that a permission is lacking, and for a `/readyz` that fails with these words.
    pub(crate) async fn is_not_ready(&self, wanted: &str) -> Result<()> {
        wait_for("a log line and a failing /readyz", CAP, || async {
            let log = self.log();
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
                    Look::NotYet(format!("{answer}; {}", self.last_words()))
                },
            )
        })
        .await
    }

    /// The end of its log.
    pub(crate) fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().rev().take(3).collect();
        lines.join("\n")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// The tests' own kubeconfig as JSON, which takes a process to be had.
static VIEW: OnceLock<String> = OnceLock::new();

/// The tests' own kubeconfig, whose user takes the part of another.
pub(crate) fn kubeconfig_of(site: &Site, user: &str) -> Result<String> {
    let view = if let Some(view) = VIEW.get() {
        view
    } else {
        let view = ["config", "view", "--raw", "--flatten", "--output=json"];
        let view = site.cluster.real()?.kubectl_says(&view)?;
        VIEW.get_or_init(|| view)
    };
    let mut kubeconfig: Value = serde_json::from_str(view)?;
    let users = kubeconfig.get_mut("users").and_then(Value::as_array_mut);
    for entry in users.into_iter().flatten() {
        entry
            .pointer_mut("/user")
            .and_then(Value::as_object_mut)
            .context("a kubeconfig's user without credentials")?
            .insert("as".to_owned(), json!(user));
    }
    Ok(kubeconfig.to_string())
}

fn readiness(address: &str) -> Result<String> {
    let mut connection = TcpStream::connect(address)?;
    connection.write_all(b"GET /readyz HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer)
}
