//! S3: versitygw where the cluster of this checkout was built, moto elsewhere.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::super::door::Way;
use super::super::tools;
use super::{Login, Server, folder, listening, secret};
use crate::cluster::Real;

/// Names a versitygw to use in any run.
const VERSITYGW: &str = "VERSITYGW";
/// Serves moto at a Unix socket.
const MOTO: &str = include_str!("moto.py");

pub(super) async fn start() -> Result<Server> {
    match versitygw()? {
        Some(program) => gateway(&program).await,
        None => moto().await,
    }
}

/// The versitygw that this run has, if it has one.
fn versitygw() -> Result<Option<PathBuf>> {
    if let Some(told) = std::env::var_os(VERSITYGW) {
        return Ok(Some(told.into()));
    }
    if !Real::is_ours() {
        return Ok(None);
    }
    Ok(Some(Real::tools()?.join("versitygw")))
}

async fn gateway(program: &Path) -> Result<Server> {
    let folder = folder()?;
    let (name, secret) = ("AKIATHESTORESOWNKEY1".to_owned(), secret());
    let data = folder.path().join("data");
    // With users of its own it knows, unlike alone, that there is no such user.
    let users = folder.path().join("users");
    fs::create_dir(&data)?;
    fs::create_dir(&users)?;
    let mut line: Vec<OsString> = vec![program.into(), "--quiet".into(), "--port".into()];
    line.push(folder.path().join("socket").into());
    line.extend(["--iam-dir".into(), users.into()]);
    line.extend(["posix".into(), data.into()]);
    let environment = [
        ("ROOT_ACCESS_KEY", name.as_str()),
        ("ROOT_SECRET_KEY", secret.as_str()),
    ];
    let way = Way::Socket(folder.path().join("socket"));
    let process = listening(&line, folder.path(), &environment, &way).await?;
    Ok(Server {
        way,
        login: Login::S3 {
            name,
            secret,
            encodes_listings: false,
            list_version: 2,
        },
        _process: Some(process),
        _folder: folder,
    })
}

async fn moto() -> Result<Server> {
    let folder = folder()?;
    let mut line: Vec<OsString> = vec![tools::moto_python()?.into(), "-c".into(), MOTO.into()];
    line.push(folder.path().into());
    // Each request must be signed by somebody who may do it, from the first on.
    let environment = [
        ("INITIAL_NO_AUTH_ACTION_COUNT", "0"),
        ("TMPDIR", folder.path().to_str().unwrap_or("/tmp")),
        ("PYTHONUNBUFFERED", "1"),
    ];
    let way = Way::Socket(folder.path().join("socket"));
    let process = listening(&line, folder.path(), &environment, &way).await?;
    let keys = fs::read_to_string(folder.path().join("keys")).context("moto wrote no keys")?;
    let Some((name, secret)) = keys.trim().split_once(' ') else {
        bail!("moto's keys are not a name and a secret");
    };
    Ok(Server {
        way,
        login: Login::S3 {
            name: name.to_owned(),
            secret: secret.to_owned(),
            encodes_listings: true,
            list_version: 1,
        },
        _process: Some(process),
        _folder: folder,
    })
}
