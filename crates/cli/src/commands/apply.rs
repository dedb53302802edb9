//! `syncline apply`: server-side apply of manifests.

use std::path::PathBuf;

use clap::Args;
use kube::Client;
use kube::api::PatchParams;
use kube::client::Body;
use serde_json::Value;

use crate::args::Scope;
use crate::connection::connect;
use crate::documents::{self, Document};
use crate::failure::{Failure, Kind};
use crate::kinds::{self, Served};
use crate::printer::Printer;
use crate::settings::Target;

/// Who applies, for the server's record of who owns which field.
const FIELD_MANAGER: &str = "syncline-cli";

/// Create or change objects from YAML or JSON.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// File, folder, or - for standard input; can be repeated
    #[arg(long = "filename", short = 'f', value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    scope: Scope,
}

pub(crate) async fn run(
    arguments: &Arguments,
    target: &Target,
    printer: &mut Printer,
) -> Result<(), Failure> {
    let documents = documents::read_all(&arguments.files)?;
    let client = connect(target).await?;
    apply_all(
        &client,
        &documents,
        arguments.scope.namespace.as_deref(),
        printer,
    )
    .await
}

/// Applies the documents in their order and tells of each.
pub(crate) async fn apply_all(
    client: &Client,
    documents: &[Document],
    namespace: Option<&str>,
    printer: &mut Printer,
) -> Result<(), Failure> {
    for document in documents {
        let (served, created) = apply(client, document, namespace)
            .await
            .map_err(|failure| {
                failure.context(format!("cannot apply {} {}", document.kind, document.name))
            })?;
        let verb = if created { "created" } else { "applied" };
        printer.line(&format!("{} {verb}", served.name_of(&document.name)))?;
        if document.kind == "CustomResourceDefinition" {
            established(client, &document.name).await?;
        }
    }
    Ok(())
}

/// Applies one document and tells whether it was new.
async fn apply(
    client: &Client,
    document: &Document,
    namespace: Option<&str>,
) -> Result<(Served, bool), Failure> {
    if let (Some(given), Some(own)) = (namespace, &document.namespace)
        && given != own
    {
        return Err(Failure::new(format!(
            "its namespace is {own:?}, but --namespace says {given:?}"
        ))
        .hint("leave one of the two out"));
    }
    let served = kinds::of_document(client, &document.api_version, &document.kind).await?;
    let namespace = document
        .namespace
        .as_deref()
        .or(namespace)
        .unwrap_or_else(|| client.default_namespace());
    let mut request = served.request(Some(namespace)).patch(
        &document.name,
        &parameters(),
        &kube::api::Patch::Apply(Value::Null),
    )?;
    *request.body_mut() = document.text.clone().into_bytes();
    let response = client.send(request.map(Body::from)).await?;
    let status = response.status().as_u16();
    let body = response.into_body().collect_bytes().await?;
    if status >= 400 {
        return Err(refusal(status, &body));
    }
    Ok((served, status == 201))
}

/// Strict: a misspelled field is refused by name, where it would otherwise be dropped without a word.
fn parameters() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER)
        .force()
        .validation_strict()
}

fn refusal(code: u16, body: &[u8]) -> Failure {
    let message = serde_json::from_slice::<Value>(body)
        .ok()
        .and_then(|status| {
            status
                .get("message")
                .and_then(Value::as_str)
                .map(str::to_owned)
        })
        .unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    let kind = if code == 404 {
        Kind::NotFound
    } else {
        Kind::Failed
    };
    Failure::refusal(&format!(
        "the cluster refused with status {code}: {message}"
    ))
    .of_kind(kind)
}

/// Waits until a custom resource definition is served, so that the next document may be of its kind.
async fn established(client: &Client, name: &str) -> Result<(), Failure> {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    use kube::runtime::{conditions, wait::await_condition};
    let waiting = await_condition(
        kube::Api::<CustomResourceDefinition>::all(client.clone()),
        name,
        conditions::is_crd_established(),
    );
    waiting
        .await
        .map_err(|error| Failure::from(anyhow::Error::from(error)))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_are_to_be_refused() {
        let request = kube::core::Request::new("/api/v1/namespaces")
            .patch("x", &parameters(), &kube::api::Patch::Apply(Value::Null))
            .unwrap();
        let query = request.uri().query().unwrap_or_default();
        assert!(query.contains("fieldValidation=Strict"), "{query}");
    }

    #[test]
    fn a_missing_namespace_is_told_with_its_cure() {
        let failure = refusal(404, br#"{"message": "namespaces \"east\" not found"}"#);
        assert_eq!(failure.kind, Kind::NotFound);
        assert!(
            failure
                .hint_text()
                .is_some_and(|hint| hint.contains("{name: east}"))
        );
    }
}
