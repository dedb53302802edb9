//! The Secrets with ssh keys: the user's, or three of our own.
//!
//! All four keys are made in a main Secret; the two others each hold one side's part of it, so that the side that made
//! the keys can hand the other its part and no more.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use syncline_api::keys::{
    DESTINATION, DESTINATION_PUB, MAIN, NEEDED_BY_DESTINATION, NEEDED_BY_SOURCE, SOURCE, SOURCE_PUB,
};
use syncline_api::names::{self, Side};

use super::draft::Draft;
use super::{Fault, Input, Object};
use crate::keys::generate;
use crate::validate::Rsync;

type Data = BTreeMap<String, ByteString>;

/// The Secrets of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Keys {
    /// The one that the mover mounts.
    pub(super) mounted: String,
    /// The one for the other side, if we made the keys.
    pub(super) published: Option<String>,
}

pub(super) fn ensure(
    draft: &mut Draft<'_>,
    input: &Input<'_>,
    rsync: &Rsync,
) -> Result<Keys, Fault> {
    match &rsync.ssh_keys {
        Some(name) => {
            check_given(input, name)?;
            Ok(Keys {
                mounted: name.clone(),
                published: None,
            })
        }
        None => make(draft, input),
    }
}

fn needed_by(side: Side) -> [&'static str; 3] {
    match side {
        Side::Source => NEEDED_BY_SOURCE,
        Side::Destination => NEEDED_BY_DESTINATION,
    }
}

fn check_given(input: &Input<'_>, name: &str) -> Result<(), Fault> {
    let needed = needed_by(input.subject.key.side);
    let (namespace, name, keys) = (
        input.namespace().to_owned(),
        name.to_owned(),
        needed.join(", "),
    );
    let Some(secret) = &input.world.secrets.given else {
        return Err(Fault::SecretMissing {
            namespace,
            name,
            keys,
        });
    };
    match needed
        .into_iter()
        .find(|key| !holds(secret.data.as_ref(), key))
    {
        Some(key) => Err(Fault::SecretIncomplete {
            namespace,
            name,
            key,
            keys,
        }),
        None => Ok(()),
    }
}

fn holds(data: Option<&Data>, key: &str) -> bool {
    data.and_then(|data| data.get(key))
        .is_some_and(|value| !value.0.is_empty())
}

fn make(draft: &mut Draft<'_>, input: &Input<'_>) -> Result<Keys, Fault> {
    let (side, name, secrets) = (input.subject.key.side, input.name(), &input.world.secrets);
    for secret in [&secrets.main, &secrets.source, &secrets.destination]
        .into_iter()
        .flatten()
    {
        input.check_owned("Secret", Some(&secret.metadata))?;
    }
    let main_name = names::ssh_keys_main(side, name);
    let main = match secrets
        .main
        .as_ref()
        .and_then(|secret| secret.data.as_ref())
    {
        Some(data) if MAIN.iter().all(|key| holds(Some(data), key)) => data.clone(),
        _ => fresh(input).map_err(|error| Fault::KeysNotMade {
            namespace: input.namespace().to_owned(),
            name: main_name.clone(),
            reason: error.to_string(),
        })?,
    };
    let (source_name, destination_name) = (
        names::ssh_keys_source(side, name),
        names::ssh_keys_destination(side, name),
    );
    let parts = [
        (main_name, &secrets.main, &MAIN[..]),
        (source_name.clone(), &secrets.source, &NEEDED_BY_SOURCE[..]),
        (
            destination_name.clone(),
            &secrets.destination,
            &NEEDED_BY_DESTINATION[..],
        ),
    ];
    for (name, present, keys) in parts {
        let data = keys
            .iter()
            .filter_map(|key| main.get_key_value(*key))
            .map(|(key, value)| (key.clone(), value.clone()));
        let wanted = Secret {
            metadata: input.metadata(name),
            data: Some(data.collect()),
            ..Secret::default()
        };
        draft.ensure(present.as_ref(), wanted, Object::Secret);
    }
    Ok(match side {
        Side::Source => Keys {
            mounted: source_name,
            published: Some(destination_name),
        },
        Side::Destination => Keys {
            mounted: destination_name,
            published: Some(source_name),
        },
    })
}

fn fresh(input: &Input<'_>) -> Result<Data, ssh_key::Error> {
    let comment = |side: &str| format!("volsync-{side}-{}-{}", input.namespace(), input.name());
    let source = generate(&input.moment.seeds.0, &comment("source"))?;
    let destination = generate(&input.moment.seeds.1, &comment("destination"))?;
    let entries = [
        (SOURCE, source.private),
        (SOURCE_PUB, source.public),
        (DESTINATION, destination.private),
        (DESTINATION_PUB, destination.public),
    ];
    Ok(entries
        .into_iter()
        .map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes())))
        .collect())
}
