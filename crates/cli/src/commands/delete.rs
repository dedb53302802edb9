//! `syncline delete`.

use std::path::PathBuf;

use clap::Args;
use kube::Client;
use kube::api::DeleteParams;
use kube::runtime::{conditions, wait::await_condition};

use crate::args::Scope;
use crate::connection::connect;
use crate::documents;
use crate::failure::{Failure, Kind};
use crate::kinds::{self, Served};
use crate::printer::Printer;
use crate::settings::Target;

/// Delete objects.
#[derive(Args, Debug)]
#[command(after_help = "\
Kinds: source, destination, snapshots, pvc, and every name that kubectl knows.

Examples:
  syncline delete source photos -n primary
  syncline delete pvc/photos pod/worker
  syncline delete -f site.yaml --ignore-not-found")]
pub(crate) struct Arguments {
    /// KIND NAME … or KIND/NAME …
    #[arg(
        value_name = "OBJECT",
        required_unless_present = "files",
        conflicts_with = "files"
    )]
    objects: Vec<String>,
    /// Delete what this file, folder or - (standard input) describes; can be repeated
    #[arg(long = "filename", short = 'f', value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    scope: Scope,
    /// Do not wait until the objects are gone
    #[arg(long)]
    no_wait: bool,
    /// An object that is not there is no failure
    #[arg(long)]
    ignore_not_found: bool,
}

/// One object to delete.
struct Victim {
    served: Served,
    namespace: String,
    name: String,
}

pub(crate) async fn run(
    arguments: &Arguments,
    target: &Target,
    printer: &mut Printer,
) -> Result<(), Failure> {
    named(&arguments.objects)?;
    let client = connect(target).await?;
    for victim in victims(arguments, &client).await? {
        match delete(&client, &victim, !arguments.no_wait).await {
            Err(failure) if failure.kind == Kind::NotFound && arguments.ignore_not_found => {}
            other => {
                other?;
                let kind = victim.served.name_of("");
                printer.line(&format!(
                    "{} {:?} deleted",
                    kind.trim_end_matches('/'),
                    victim.name
                ))?;
            }
        }
    }
    Ok(())
}

/// The objects as they are named. A kind alone would mean all of its objects, which is too easily said.
fn named(words: &[String]) -> Result<Vec<(String, String)>, Failure> {
    if words.is_empty() {
        return Ok(Vec::new());
    }
    let objects = kinds::objects(words)?.into_iter();
    objects
        .map(|(kind, name)| match name {
            Some(name) => Ok((kind, name)),
            None => Err(Failure::new(format!("say which {kind} to delete"))
                .of_kind(Kind::Usage)
                .hint("write KIND NAME or KIND/NAME")),
        })
        .collect()
}

async fn victims(arguments: &Arguments, client: &Client) -> Result<Vec<Victim>, Failure> {
    let namespace = arguments
        .scope
        .namespace
        .as_deref()
        .unwrap_or_else(|| client.default_namespace());
    let mut victims = Vec::new();
    if arguments.files.is_empty() {
        for (kind, name) in named(&arguments.objects)? {
            victims.push(Victim {
                served: kinds::resolve(client, &kind).await?,
                namespace: namespace.to_owned(),
                name,
            });
        }
        return Ok(victims);
    }
    // What depends on other objects stands after them in a manifest, and goes first.
    for document in documents::read_all(&arguments.files)?.into_iter().rev() {
        let served = kinds::of_document(client, &document.api_version, &document.kind).await?;
        let namespace = document.namespace.unwrap_or_else(|| namespace.to_owned());
        victims.push(Victim {
            served,
            namespace,
            name: document.name,
        });
    }
    Ok(victims)
}

async fn delete(client: &Client, victim: &Victim, wait: bool) -> Result<(), Failure> {
    let api = victim.served.api(client, &victim.namespace);
    let object = match api.get(&victim.name).await.map_err(Failure::from) {
        Err(failure) => {
            return Err(kinds::or_elsewhere(client, &victim.served, &victim.name, failure).await);
        }
        Ok(object) => object,
    };
    api.delete(&victim.name, &DeleteParams::background())
        .await?;
    if let (true, Some(uid)) = (wait, object.metadata.uid) {
        await_condition(api, &victim.name, conditions::is_deleted(&uid))
            .await
            .map_err(|error| Failure::from(anyhow::Error::from(error)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_without_a_name_is_wrong_usage() {
        let failure = named(&["source".to_owned()]).unwrap_err();
        assert_eq!(failure.kind.exit_code(), 2);
    }
}
