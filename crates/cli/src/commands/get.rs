//! `syncline get`: objects as kubectl shows them.

use clap::{Args, ValueEnum};
use futures::TryStreamExt;
use kube::Client;
use kube::api::{GetParams, ListParams, WatchEvent, WatchParams};
use serde_json::{Value, json};

use crate::args::WideScope;
use crate::connection::connect;
use crate::failure::{Failure, Kind};
use crate::get_table::{self, Style, Table};
use crate::kinds::{self, Served};
use crate::printer::{Printer, Widths, aligned};
use crate::settings::Target;

/// How long the server keeps a watch open before it is renewed, in seconds.
const WATCH_SECONDS: u32 = 290;

/// Show objects.
#[derive(Args, Debug)]
#[command(after_help = "\
Kinds: source, destination, snapshots, pvc, and every name that kubectl knows.

Examples:
  syncline get source,destination -A
  syncline get source photos -n primary -o yaml
  syncline get pvc -n backup -w")]
pub(crate) struct Arguments {
    /// KIND, KIND NAME …, or KIND/NAME …
    #[arg(value_name = "OBJECT")]
    objects: Vec<String>,
    #[command(flatten)]
    scope: WideScope,
    /// How to show them
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Only objects with these labels
    #[arg(long, short = 'l', value_name = "SELECTOR")]
    selector: Option<String>,
    /// Go on showing what changes
    #[arg(long, short)]
    watch: bool,
}

/// A form of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Columns
    Table,
    /// All columns
    Wide,
    /// YAML
    Yaml,
    /// JSON
    Json,
    /// KIND/NAME
    Name,
}

/// What is asked of the server for one kind.
struct Question<'a> {
    client: &'a Client,
    served: Served,
    /// `None`: all namespaces.
    namespace: Option<String>,
    name: Option<String>,
    selector: Option<&'a str>,
}

pub(crate) async fn run(
    arguments: &Arguments,
    target: &Target,
    printer: &mut Printer,
) -> Result<(), Failure> {
    let objects = kinds::objects(&arguments.objects)?;
    let client = connect(target).await?;
    let mut questions = Vec::new();
    for (kind, name) in objects {
        questions.push(question(arguments, &client, &kind, name).await?);
    }
    match arguments.output {
        Output::Table | Output::Wide => tables(arguments, &questions, printer).await,
        output => values(output, &questions, printer).await,
    }
}

async fn question<'a>(
    arguments: &'a Arguments,
    client: &'a Client,
    kind: &str,
    name: Option<String>,
) -> Result<Question<'a>, Failure> {
    let scope = &arguments.scope;
    if name.is_some() && scope.all_namespaces {
        return Err(Failure::new("a single object is in a single namespace")
            .of_kind(Kind::Usage)
            .hint("leave -A out, or the name"));
    }
    let namespace = (!scope.all_namespaces).then(|| {
        scope
            .scope
            .namespace
            .clone()
            .unwrap_or_else(|| client.default_namespace().to_owned())
    });
    Ok(Question {
        client,
        served: kinds::resolve(client, kind).await?,
        namespace,
        name,
        selector: arguments.selector.as_deref(),
    })
}

impl Question<'_> {
    /// The object or the list, in the form that `accept` asks for.
    async fn ask(&self, accept: Option<&'static str>) -> Result<Value, Failure> {
        let request = self.served.request(self.namespace.as_deref());
        let mut request = match &self.name {
            Some(name) => request.get(name, &GetParams::default())?,
            None => request.list(&self.list_parameters())?,
        };
        if let Some(accept) = accept {
            request.headers_mut().insert("accept", header(accept)?);
        }
        let answer = self.client.request(request).await.map_err(Failure::from);
        match (answer, &self.name) {
            (Err(failure), Some(name)) => {
                Err(kinds::or_elsewhere(self.client, &self.served, name, failure).await)
            }
            (answer, _) => answer,
        }
    }

    fn list_parameters(&self) -> ListParams {
        self.selector.map_or_else(ListParams::default, |selector| {
            ListParams::default().labels(selector)
        })
    }

    fn watch_parameters(&self) -> WatchParams {
        let parameters = WatchParams {
            bookmarks: false,
            ..WatchParams::default()
        }
        .timeout(WATCH_SECONDS);
        match (&self.name, self.selector) {
            (Some(name), _) => parameters.fields(&format!("metadata.name={name}")),
            (None, Some(selector)) => parameters.labels(selector),
            (None, None) => parameters,
        }
    }
}

/// The header value type of the `http` crate, which the request itself brings along.
fn header<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    text: &str,
) -> Result<T, Failure> {
    text.parse()
        .map_err(|error| Failure::from(anyhow::Error::new(error)))
}

async fn tables(
    arguments: &Arguments,
    questions: &[Question<'_>],
    printer: &mut Printer,
) -> Result<(), Failure> {
    let style = Style {
        wide: arguments.output == Output::Wide,
        namespaces: false,
    };
    let mut widths = Widths::default();
    let mut empty = true;
    for (index, question) in questions.iter().enumerate() {
        let style = Style {
            namespaces: question.namespace.is_none() && question.served.namespaced,
            ..style
        };
        let table: Table = serde_json::from_value(question.ask(Some(get_table::ACCEPT)).await?)?;
        // Several objects of one kind share a table; another kind begins a new one.
        let begins = index
            .checked_sub(1)
            .and_then(|before| questions.get(before))
            .is_none_or(|before| before.served.full_name() != question.served.full_name());
        if !table.is_empty() {
            empty = false;
            let mut rows = if begins {
                vec![table.heading(style)]
            } else {
                Vec::new()
            };
            rows.extend(table.lines(style));
            for line in aligned(&rows, &mut widths) {
                printer.line(&line)?;
            }
        }
        if arguments.watch {
            return watch(question, style, (table, widths), printer).await;
        }
    }
    if empty {
        printer.note(&nothing(questions));
    }
    Ok(())
}

fn nothing(questions: &[Question<'_>]) -> String {
    match questions.first() {
        Some(Question {
            served,
            namespace: Some(namespace),
            ..
        }) if served.namespaced => format!(
            "There are no {} in namespace {namespace}.",
            served.resource.plural
        ),
        Some(Question { served, .. }) => format!("There are no {}.", served.resource.plural),
        None => String::new(),
    }
}

async fn watch(
    question: &Question<'_>,
    style: Style,
    (table, mut widths): (Table, Widths),
    printer: &mut Printer,
) -> Result<(), Failure> {
    let mut version = table.resource_version().to_owned();
    let mut headed = !table.is_empty();
    loop {
        let request = question.served.request(question.namespace.as_deref());
        let mut request = request.watch(&question.watch_parameters(), &version)?;
        request
            .headers_mut()
            .insert("accept", header(get_table::ACCEPT)?);
        let mut events = std::pin::pin!(question.client.request_events::<Value>(request).await?);
        while let Some(event) = events.try_next().await? {
            let object = match event {
                WatchEvent::Added(object)
                | WatchEvent::Modified(object)
                | WatchEvent::Deleted(object) => object,
                WatchEvent::Bookmark(_) => continue,
                WatchEvent::Error(status) => return Err(kube::Error::Api(status).into()),
            };
            if let Some(seen) = object
                .pointer("/rows/0/object/metadata/resourceVersion")
                .and_then(Value::as_str)
            {
                seen.clone_into(&mut version);
            }
            let change: Table = serde_json::from_value(object)?;
            let mut change = change.following(&table);
            if let Some(name) = &question.name {
                change.keep(name);
            }
            let mut rows = if headed {
                Vec::new()
            } else {
                vec![change.heading(style)]
            };
            headed = true;
            rows.extend(change.lines(style));
            for line in aligned(&rows, &mut widths) {
                printer.line(&line)?;
            }
        }
    }
}

async fn values(
    output: Output,
    questions: &[Question<'_>],
    printer: &mut Printer,
) -> Result<(), Failure> {
    let mut objects = Vec::new();
    let mut list = questions.len() != 1;
    for question in questions {
        let answer = question.ask(None).await?;
        match answer.get("items").and_then(Value::as_array) {
            Some(items) => {
                list = true;
                objects.extend(
                    items
                        .iter()
                        .map(|item| typed(item.clone(), &question.served)),
                );
            }
            None => objects.push(answer),
        }
    }
    objects.iter_mut().for_each(without_bookkeeping);
    if output == Output::Name {
        for object in &objects {
            printer.line(&name_of(object))?;
        }
        return Ok(());
    }
    let whole = if list {
        json!({"apiVersion": "v1", "kind": "List", "items": objects})
    } else {
        objects.pop().unwrap_or_default()
    };
    let text = if output == Output::Json {
        serde_json::to_string_pretty(&whole)?
    } else {
        yaml(&whole)?
    };
    Ok(printer.line(text.trim_end())?)
}

/// Objects in a list carry no type of their own.
fn typed(mut object: Value, served: &Served) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields
            .entry("apiVersion")
            .or_insert_with(|| json!(served.resource.api_version));
        fields
            .entry("kind")
            .or_insert_with(|| json!(served.resource.kind));
    }
    object
}

/// Who owns which field interests few; kubectl leaves it out as well.
fn without_bookkeeping(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
}

fn name_of(object: &Value) -> String {
    let text = |pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let kind = text("/kind").to_lowercase();
    let name = text("/metadata/name");
    match text("/apiVersion").rsplit_once('/') {
        Some((group, _)) => format!("{kind}.{group}/{name}"),
        None => format!("{kind}/{name}"),
    }
}

fn yaml(value: &Value) -> Result<String, Failure> {
    serde_saphyr::to_string(value)
        .map_err(|error| Failure::new(format!("cannot write YAML: {error}")).of_kind(Kind::Failed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_named_with_their_group() {
        let named = |version: &str, kind: &str| {
            name_of(&json!({"apiVersion": version, "kind": kind, "metadata": {"name": "x"}}))
        };
        assert_eq!(named("v1", "Pod"), "pod/x");
        assert_eq!(
            named("volsync.backube/v1alpha1", "ReplicationSource"),
            "replicationsource.volsync.backube/x"
        );
    }

    #[test]
    fn yaml_reads_back_as_it_was() {
        let object = json!({"a": "yes", "b": "0123", "c": ["x: y", "#no comment", "multi\nline\n"], "d": {"e": null, "f": "2026-11-21T10:00:00Z"}, "g": "1e3"});
        let text = yaml(&object).unwrap();
        assert_eq!(
            serde_saphyr::from_str::<Value>(&text).unwrap(),
            object,
            "{text}"
        );
    }
}
