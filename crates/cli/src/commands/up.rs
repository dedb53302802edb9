//! `syncline up`: the embedded cluster and the operator in one process.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::runtime::{conditions, wait::await_condition};
use kube::{Api, Client, ResourceExt};
use syncline_embedded::{Cluster, Config, StartError};
use syncline_operator::options::MoverImages;
use syncline_operator::{Operator, Options, SystemClock};
use tokio_util::sync::CancellationToken;

use crate::args::Global;
use crate::commands::apply::apply_all;
use crate::documents;
use crate::failure::{Failure, Kind};
use crate::printer::Printer;
use crate::settings::{Environment, data_folder};
use crate::stop;

/// Name of the image that holds this program; on the embedded cluster there is nothing to pull.
const IMAGE: &str = "syncline";
/// The ssh port that is meant where `spec.rsync` names none: a machine's own sshd holds 22, and ordinary users may
/// not bind it.
const RSYNC_PORT: u16 = 2022;
/// Who applies the custom resource definitions.
const FIELD_MANAGER: &str = "syncline-up";

/// Run a cluster on this machine, with the operator, until stopped.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Apply this file or folder once the cluster runs; can be repeated
    #[arg(long = "filename", short = 'f', value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where the operator serves /metrics, /healthz and /readyz [default: nowhere]; port 0 takes any
    #[arg(long, value_name = "ADDRESS:PORT")]
    http: Option<SocketAddr>,
    /// Run the cluster alone; `syncline operator` can be started beside it, or several
    #[arg(long, conflicts_with = "http")]
    without_operator: bool,
    /// A further image: pods that ask for NAME have the program at PATH as /NAME; can be repeated
    #[arg(long = "image", value_name = "NAME=PATH", value_parser = image)]
    images: Vec<(String, PathBuf)>,
    /// A folder with programs that the movers need and this machine does not have, or not new enough (rclone); pods
    /// see it as /opt/programs, first in their PATH
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

fn image(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok((name.to_owned(), PathBuf::from(path)))
        }
        _ => Err("it is written NAME=PATH".to_owned()),
    }
}

pub(crate) async fn run(
    arguments: &Arguments,
    global: &Global,
    environment: &Environment,
    printer: &mut Printer,
) -> Result<(), Failure> {
    // Volumes carry their folder in the API, where a relative path means nothing.
    let data = std::path::absolute(data_folder(global, environment)?)?;
    // Read before anything starts: a mistake in a manifest is told at once.
    let manifests = if arguments.files.is_empty() {
        Vec::new()
    } else {
        documents::read_all(&arguments.files)?
    };
    let stop = CancellationToken::new();
    let _watch = stop::on_signal(&stop)?;
    let cluster = start(&data, arguments).await?;
    let client = cluster.client();
    serve_our_kinds(&client).await?;
    let operator = operator(arguments, &client).await?;
    let further = programs(arguments.programs.as_deref())?;
    let rclone = syncline_mover::rclone_of_pods(further.as_deref()).await;
    greet(&cluster, (&data, &rclone), operator.as_ref(), printer);
    let operator = tokio::spawn(work(operator, stop.clone()));
    let applied = apply_all(&client, &manifests, None, printer).await;
    if applied.is_err() {
        stop.cancel();
    }
    let ended = operator.await;
    printer.note("stopping: pods end, data stays");
    cluster.shutdown().await;
    applied?;
    ended
        .map_err(|error| {
            Failure::from(anyhow::Error::new(error).context("the operator broke off"))
        })?
        .map_err(|error| Failure::from(anyhow::Error::new(error).context("the operator ended")))
}

/// The operator, unless it is to be left out.
async fn operator(arguments: &Arguments, client: &Client) -> Result<Option<Operator>, Failure> {
    if arguments.without_operator {
        return Ok(None);
    }
    Operator::bind(
        client.clone(),
        options(arguments.http),
        Arc::new(SystemClock),
    )
    .await
    .map(Some)
    .map_err(|error| Failure::from(anyhow::Error::new(error)))
}

/// Works until `stop`, or just waits for it.
async fn work(
    operator: Option<Operator>,
    stop: CancellationToken,
) -> Result<(), syncline_operator::Error> {
    if let Some(operator) = operator {
        return operator.run(stop).await;
    }
    stop.cancelled().await;
    Ok(())
}

async fn start(data: &Path, arguments: &Arguments) -> Result<Cluster, Failure> {
    if data.is_file() {
        return Err(
            Failure::new(format!("{} is a file, not a folder", data.display()))
                .hint("choose a folder with --data DIR; it is made if it is not there"),
        );
    }
    let own = std::env::current_exe()
        .map_err(|error| Failure::from(error).context("cannot find this program's own file"))?;
    let mut images: BTreeMap<String, PathBuf> = arguments.images.iter().cloned().collect();
    images.insert(IMAGE.to_owned(), own);
    let config = Config {
        images,
        programs: programs(arguments.programs.as_deref())?,
        ..Config::new(data)
    };
    Cluster::start(config, Arc::new(syncline_embedded::clock::SystemClock))
        .await
        .map_err(|error| refusal(&error))
}

/// The folder with further programs, as pods are given it.
fn programs(folder: Option<&Path>) -> Result<Option<PathBuf>, Failure> {
    let Some(folder) = folder else {
        return Ok(None);
    };
    let whole = std::fs::canonicalize(folder).map_err(Failure::from);
    match whole {
        Ok(whole) if whole.is_dir() => Ok(Some(whole)),
        Ok(_) => Err(
            Failure::new(format!("{} is a file, not a folder", folder.display()))
                .hint("--programs names the folder that holds the programs"),
        ),
        Err(error) => Err(error
            .context(format!("cannot read the folder {}", folder.display()))
            .hint("--programs names a folder with programs such as rclone; leave it out if the machine has them")),
    }
}

/// Why the cluster did not start; where the folder is to blame, what to do stands in the message after a semicolon.
fn refusal(error: &StartError) -> Failure {
    let in_use = matches!(error, StartError::InUse(_));
    let text = error.to_string();
    let of_folder = in_use || matches!(error, StartError::Lock(_) | StartError::Folder { .. });
    let failure = match text.rsplit_once("; ").filter(|_| of_folder) {
        Some((what, cure)) if in_use => Failure::new(what).hint(format!("{cure} with --data DIR")),
        Some((what, cure)) => {
            Failure::new(what).hint(format!("{cure}, or choose another one with --data DIR"))
        }
        None => Failure::new(text),
    };
    if in_use {
        failure.of_kind(Kind::InUse)
    } else {
        failure
    }
}

fn options(http: Option<SocketAddr>) -> Options {
    Options {
        images: MoverImages::all(IMAGE),
        rsync_port: RSYNC_PORT,
        http,
        ..Options::default()
    }
}

/// Applies the definitions of our two kinds and waits until they are served.
async fn serve_our_kinds(client: &Client) -> Result<(), Failure> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in syncline_api::crds() {
        let name = definition.name_any();
        definitions
            .patch(
                &name,
                &PatchParams::apply(FIELD_MANAGER).force(),
                &Patch::Apply(&definition),
            )
            .await?;
        let served = await_condition(definitions.clone(), &name, conditions::is_crd_established());
        served
            .await
            .map_err(|error| Failure::from(anyhow::Error::new(error)))?;
    }
    Ok(())
}

fn greet(
    cluster: &Cluster,
    (data, rclone): (&Path, &str),
    operator: Option<&Operator>,
    printer: &mut Printer,
) {
    printer.note(&format!("cluster     {}", cluster.url()));
    printer.note(&format!("data        {}", data.display()));
    printer.note(&format!("kubeconfig  {}", cluster.kubeconfig().display()));
    printer.note(match operator {
        Some(_) => "operator    runs in this process, rsync listens on port 2022 of each destination's address",
        None => "operator    none; start one with `syncline operator --mover-image syncline --rsync-port 2022`",
    });
    printer.note(&format!("rclone      {rclone}"));
    if let Some(address) = operator.and_then(Operator::http_address) {
        printer.note(&format!("metrics     http://{address}"));
    }
    printer.note("");
    printer.note(&format!(
        "In another terminal: export KUBECONFIG={}",
        cluster.kubeconfig().display()
    ));
    printer.note(
        "and then kubectl get replicationsources,replicationdestinations -A, or syncline status.",
    );
    printer.note("Ctrl-C stops it; the data stays.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_folder_that_is_held_is_in_use_and_each_cure_is_told_once() {
        let held = refusal(&StartError::InUse(
            "the data folder /d is in use by process 7; stop that process, or use another folder"
                .to_owned(),
        ));
        assert_eq!(held.kind.exit_code(), 5);
        assert_eq!(held.causes(), ["the data folder /d is in use by process 7"]);
        assert_eq!(
            held.hint_text(),
            Some("stop that process, or use another folder with --data DIR")
        );
        let unwritable = refusal(&StartError::Lock(
            "cannot lock /d/lock: Permission denied; see that the folder belongs to this user"
                .to_owned(),
        ));
        assert_eq!(unwritable.kind.exit_code(), 1);
        assert!(
            unwritable
                .hint_text()
                .is_some_and(|hint| hint.starts_with("see that the folder belongs"))
        );
    }

    fn arguments(programs: Option<PathBuf>) -> Arguments {
        Arguments {
            files: Vec::new(),
            http: None,
            without_operator: true,
            images: Vec::new(),
            programs,
        }
    }

    #[tokio::test]
    async fn a_folder_of_programs_that_is_none_is_refused_before_anything_starts() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rclone");
        std::fs::write(&file, "a program").unwrap();
        for (wrong, said) in [
            (file, "is a file, not a folder"),
            (folder.path().join("nowhere"), "cannot read the folder"),
        ] {
            let data = folder.path().join("data");
            let Err(failure) = start(&data, &arguments(Some(wrong))).await else {
                panic!("it started with programs from nowhere");
            };
            assert!(failure.causes().concat().contains(said), "{failure:?}");
            assert!(failure.hint_text().unwrap().contains("--programs"));
            assert!(!data.exists());
        }
    }

    #[tokio::test]
    async fn a_data_path_that_is_a_file_is_told_as_such() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let Err(failure) = start(file.path(), &arguments(None)).await else {
            panic!("it started on a file");
        };
        assert!(
            failure
                .causes()
                .concat()
                .ends_with("is a file, not a folder")
        );
    }
}
