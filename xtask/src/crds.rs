//! `xtask crds`: the definitions as files, and whether the files are what they should be.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

/// Where the definitions go, seen from the workspace: for kubectl, and into the chart, whose templates read them.
const FOLDERS: [&str; 2] = ["deploy/crds", "deploy/helm/syncline/definitions"];
const HEADER: &str = "# Written by `make crds` from crates/api; a change here would be lost.\n";

/// Writes the custom resource definitions.
#[derive(Args)]
pub(crate) struct Options {
    /// Only look whether the files are up to date, and fail if not.
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(options: &Options, root: &Path) -> Result<()> {
    for folder in FOLDERS.map(|folder| root.join(folder)) {
        let wanted = files(&folder)?;
        if options.check {
            check(&folder, &wanted)?;
        } else {
            write(&folder, &wanted)?;
        }
    }
    Ok(())
}

/// Every file with its content.
fn files(folder: &Path) -> Result<Vec<(PathBuf, String)>> {
    let file = |definition: CustomResourceDefinition| {
        // The name other projects' tools give such files.
        let name = format!(
            "{}_{}.yaml",
            definition.spec.group, definition.spec.names.plural
        );
        let yaml =
            yaml(&definition).with_context(|| format!("{name} cannot be written as YAML"))?;
        Ok((folder.join(name), format!("{HEADER}---\n{yaml}")))
    };
    syncline_api::crds().into_iter().map(file).collect()
}

/// The definition as YAML, with whole numbers written as such: its bounds are floating-point numbers in Rust.
fn yaml(definition: &CustomResourceDefinition) -> Result<String> {
    let mut value = serde_json::to_value(definition)?;
    whole_numbers(&mut value);
    Ok(serde_saphyr::to_string(&value)?)
}

fn whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            // `{}` prints a float without decimals as a whole number.
            let whole = number
                .as_f64()
                .and_then(|float| format!("{float}").parse::<i64>().ok());
            if let Some(whole) = whole.filter(|_| number.is_f64()) {
                *number = whole.into();
            }
        }
        Value::Array(values) => values.iter_mut().for_each(whole_numbers),
        Value::Object(fields) => fields.values_mut().for_each(whole_numbers),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

fn write(folder: &Path, wanted: &[(PathBuf, String)]) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    for (path, content) in wanted {
        fs::write(path, content)
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(())
}

fn check(folder: &Path, wanted: &[(PathBuf, String)]) -> Result<()> {
    for (path, content) in wanted {
        let found = fs::read_to_string(path).unwrap_or_default();
        if found != *content {
            bail!(
                "{} is not what crates/api says; run `make crds` and commit the result",
                path.display()
            );
        }
    }
    let listed =
        fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    for entry in listed {
        let path = entry?.path();
        if wanted.iter().all(|(known, _)| *known != path) {
            bail!(
                "{} belongs to no kind of crates/api; remove it",
                path.display()
            );
        }
    }
    Ok(())
}
