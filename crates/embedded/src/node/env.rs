//! A container's environment and its command line.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVar};

use super::launcher::spec::PROGRAMS;
use super::references::{Blocked, Holder, References, resource};

/// Where programs are looked for when the pod does not say.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The same with further programs before the host's own.
fn path(further: bool) -> String {
    if further {
        format!("{PROGRAMS}:{PATH}")
    } else {
        PATH.to_owned()
    }
}

/// The whole environment: what every container has, then `envFrom`, then `env`, each value expanded.
pub(crate) async fn environment(
    container: &Container,
    hostname: &str,
    further_programs: bool,
    references: &References<'_>,
) -> Result<Vec<(String, String)>, Blocked> {
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    known.insert("PATH".to_owned(), path(further_programs));
    known.insert("HOME".to_owned(), "/root".to_owned());
    known.insert("HOSTNAME".to_owned(), hostname.to_owned());
    for source in container.env_from.iter().flatten() {
        known.extend(from_source(source, references).await?);
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = value_of(variable, container, references, &known).await? {
            known.insert(variable.name.clone(), value);
        }
    }
    Ok(known.into_iter().collect())
}

async fn from_source(
    source: &EnvFromSource,
    references: &References<'_>,
) -> Result<Vec<(String, String)>, Blocked> {
    let secret = source
        .secret_ref
        .as_ref()
        .map(|from| (Holder::Secret, from.name.as_str(), from.optional));
    let map = source
        .config_map_ref
        .as_ref()
        .map(|from| (Holder::ConfigMap, from.name.as_str(), from.optional));
    let Some((holder, name, optional)) = secret.or(map) else {
        return Ok(Vec::new());
    };
    match references.values(holder, name).await? {
        Some(values) => {
            let prefix = source.prefix.as_deref().unwrap_or_default();
            let named = |(key, value): (String, Vec<u8>)| (format!("{prefix}{key}"), text(&value));
            Ok(values.into_iter().map(named).collect())
        }
        None if optional == Some(true) => Ok(Vec::new()),
        None => Err(Blocked::config(holder.absent(name))),
    }
}

async fn value_of(
    variable: &EnvVar,
    container: &Container,
    references: &References<'_>,
    known: &BTreeMap<String, String>,
) -> Result<Option<String>, Blocked> {
    let Some(source) = &variable.value_from else {
        return Ok(Some(expand(
            variable.value.as_deref().unwrap_or_default(),
            known,
        )));
    };
    if let Some(from) = &source.secret_key_ref {
        return key_of(
            references,
            Holder::Secret,
            (&from.name, &from.key),
            from.optional,
        )
        .await;
    }
    if let Some(from) = &source.config_map_key_ref {
        return key_of(
            references,
            Holder::ConfigMap,
            (&from.name, &from.key),
            from.optional,
        )
        .await;
    }
    if let Some(from) = &source.field_ref {
        let unknown = || Blocked::config(format!("unsupported fieldPath: {}", from.field_path));
        return references
            .field(&from.field_path)
            .map(Some)
            .ok_or_else(unknown);
    }
    if let Some(from) = &source.resource_field_ref {
        let divisor = from.divisor.as_ref().map(|divisor| divisor.0.as_str());
        let unknown =
            || Blocked::config(format!("unsupported container resource: {}", from.resource));
        return resource(container, &from.resource, divisor)
            .map(Some)
            .ok_or_else(unknown);
    }
    Ok(None)
}

async fn key_of(
    references: &References<'_>,
    holder: Holder,
    (name, key): (&str, &str),
    optional: Option<bool>,
) -> Result<Option<String>, Blocked> {
    let optional = optional == Some(true);
    match references.values(holder, name).await? {
        Some(values) => match values.get(key) {
            Some(value) => Ok(Some(text(value))),
            None if optional => Ok(None),
            None => {
                let namespace = references.namespace();
                let message = format!(
                    "couldn't find key {key} in {} {namespace}/{name}",
                    holder.kind()
                );
                Err(Blocked::config(message))
            }
        },
        None if optional => Ok(None),
        None => Err(Blocked::config(holder.absent(name))),
    }
}

/// Programs get bytes that are no text, too; the embedded cluster passes text only.
fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

/// The command line: `command`, else the image's program, then `args`.
pub(crate) fn command_line(
    container: &Container,
    program: &str,
    env: &[(String, String)],
) -> Vec<String> {
    let known: BTreeMap<String, String> = env.iter().cloned().collect();
    let command = container
        .command
        .as_deref()
        .filter(|command| !command.is_empty());
    let command = command.map_or_else(|| vec![program.to_owned()], <[String]>::to_vec);
    let words = command.iter().chain(container.args.iter().flatten());
    words.map(|word| expand(word, &known)).collect()
}

/// Replaces `$(NAME)`; `$$` stands for one dollar, and a name that is not known stays as it is.
pub(crate) fn expand(text: &str, known: &BTreeMap<String, String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        if let Some(tail) = after.strip_prefix('$') {
            expanded.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after
            .strip_prefix('(')
            .and_then(|inner| inner.split_once(')'))
        {
            match known.get(name) {
                Some(value) => expanded.push_str(value),
                None => expanded.extend(["$(", name, ")"]),
            }
            rest = tail;
        } else {
            expanded.push('$');
            rest = after;
        }
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_expanded_as_kubernetes_does() {
        let known = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        for (text, expanded) in [
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$$(A)", "$(A)"),
            ("$(B)", "$(B)"),
            ("$A $", "$A $"),
            ("$(A", "$(A"),
            ("$$$(A)", "$1"),
        ] {
            assert_eq!(expand(text, &known), expanded, "{text}");
        }
    }

    #[test]
    fn without_a_command_the_image_s_program_gets_the_arguments() {
        let container = Container {
            args: Some(vec!["$(A)".to_owned()]),
            ..Container::default()
        };
        let env = [("A".to_owned(), "1".to_owned())];
        assert_eq!(
            command_line(&container, "/syncline", &env),
            ["/syncline", "1"]
        );
    }
}
