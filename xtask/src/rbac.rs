//! `xtask gen-rbac`: the operator's table of permissions as the chart's rules and as a page's table.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use syncline_operator::permissions::{Feature, PERMISSIONS, Permission, Scope};

/// The rules, by purpose, for the templates that are written by hand.
const RULES: &str = "deploy/helm/syncline/templates/_rules.tpl";
/// The page that shows them.
const PAGE: &str = "docs/permissions.md";
const BEGIN: &str = "<!-- written by xtask gen-rbac from here -->\n";
const END: &str = "<!-- to here -->\n";

/// Writes the chart's rules and the table of docs/permissions.md.
#[derive(Args)]
pub(crate) struct Options {
    /// Only look whether the files are up to date, and fail if not.
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(options: &Options, root: &Path) -> Result<()> {
    for (path, wanted) in [(root.join(RULES), rules()), page(root)?] {
        if !options.check {
            fs::write(&path, wanted)
                .with_context(|| format!("{} cannot be written", path.display()))?;
        } else if fs::read_to_string(&path).unwrap_or_default() != wanted {
            bail!(
                "{} is not what crates/operator/src/permissions.rs says; run `make rbac` and commit the result",
                path.display()
            );
        }
    }
    Ok(())
}

/// The parts of the chart, each a list of rules: its name and which rows it has.
const PARTS: [(&str, Scope, Feature); 8] = [
    ("tenant", Scope::Tenant, Feature::Replication),
    ("cluster", Scope::Cluster, Feature::Replication),
    ("populator", Scope::Cluster, Feature::Populator),
    ("populatorTenant", Scope::Tenant, Feature::Populator),
    ("election", Scope::Own, Feature::Election),
    ("pullSecrets", Scope::Own, Feature::PullSecrets),
    ("pullSecretsTenant", Scope::Tenant, Feature::PullSecrets),
    ("metricsAccess", Scope::Cluster, Feature::MetricsAccess),
];

fn rules() -> String {
    let mut text = "{{- /* Written by `make rbac` from crates/operator/src/permissions.rs; a change here would be lost. */ -}}\n".to_owned();
    for (name, scope, feature) in PARTS {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{{{{- define \"syncline.rules.{name}\" -}}}}");
        for row in of(scope, feature) {
            let _ = write!(text, "{}", rule(row));
        }
        text.push_str("{{- end }}\n");
    }
    text
}

fn of(scope: Scope, feature: Feature) -> impl Iterator<Item = &'static Permission> {
    PERMISSIONS
        .iter()
        .filter(move |row| row.scope == scope && row.feature == feature)
}

fn rule(row: &Permission) -> String {
    let quoted = |words: &[&str]| format!("[{}]", words.join(", "));
    let group = if row.group.is_empty() {
        "\"\""
    } else {
        row.group
    };
    let mut text = format!(
        "# {}\n- apiGroups: [{group}]\n  resources: [{}]\n",
        row.why, row.resource
    );
    if !row.names.is_empty() {
        let _ = writeln!(text, "  resourceNames: {}", quoted(row.names));
    }
    let _ = writeln!(text, "  verbs: {}", quoted(row.verbs));
    text
}

/// The page, with its table anew.
fn page(root: &Path) -> Result<(PathBuf, String)> {
    let path = root.join(PAGE);
    let text =
        fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    let (before, rest) = text
        .split_once(BEGIN)
        .with_context(|| format!("{} has no place for the table", path.display()))?;
    let (_, after) = rest
        .split_once(END)
        .with_context(|| format!("{}: the table's place has no end", path.display()))?;
    Ok((
        path.clone(),
        format!("{before}{BEGIN}{}{END}{after}", table()),
    ))
}

fn table() -> String {
    let mut text = String::new();
    for (title, scope, feature) in [
        (
            "In each namespace with replicated volumes",
            Scope::Tenant,
            Feature::Replication,
        ),
        ("On the cluster", Scope::Cluster, Feature::Replication),
        (
            "For the volume populator, on the cluster",
            Scope::Cluster,
            Feature::Populator,
        ),
        (
            "For the volume populator, in each namespace",
            Scope::Tenant,
            Feature::Populator,
        ),
        (
            "For metrics, on the cluster",
            Scope::Cluster,
            Feature::MetricsAccess,
        ),
        (
            "For leader election, in the operator's namespace",
            Scope::Own,
            Feature::Election,
        ),
        (
            "For pull secrets, in the operator's namespace",
            Scope::Own,
            Feature::PullSecrets,
        ),
        (
            "For pull secrets, in each namespace",
            Scope::Tenant,
            Feature::PullSecrets,
        ),
    ] {
        let _ = write!(
            text,
            "\n### {title}\n\n| Resource | Verbs | What for |\n| --- | --- | --- |\n"
        );
        for row in of(scope, feature) {
            let names = match row.names {
                [] => String::new(),
                names => format!(" (only `{}`)", names.join("`, `")),
            };
            let unseen = row
                .unseen
                .map_or_else(String::new, |why| format!(" ({why})"));
            let _ = writeln!(
                text,
                "| `{}`{names} | {} | {}{unseen} |",
                row.full_resource(),
                row.verbs.join(", "),
                row.why
            );
        }
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_its_place_in_the_chart() {
        for row in PERMISSIONS {
            assert!(
                PARTS
                    .iter()
                    .any(|(_, scope, feature)| (*scope, *feature) == (row.scope, row.feature)),
                "{row:?}"
            );
        }
    }
}
