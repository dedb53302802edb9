//! The copies of the Secrets that movers' images are pulled with. One copy serves all resources of a namespace: each adds
//! itself to the owners, and when the last of them is gone so is the copy.

use k8s_openapi::api::core::v1::{LocalObjectReference, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use syncline_api::{labels, names};

use super::draft::Draft;
use super::{Fault, Input, Object};
use crate::observe::PullSecret;
use crate::subject::{has_label, owners};

/// What the names of all copies begin with.
const PREFIX: &str = "volsync-pull-";

/// Sees to the copies; returns what a service account says of them.
pub(super) fn ensure(
    draft: &mut Draft<'_>,
    input: &Input<'_>,
) -> Result<Option<Vec<LocalObjectReference>>, Fault> {
    let mut references = Vec::new();
    for secret in &input.world.pull_secrets {
        let name = names::pull_secret(secret.original.metadata.name.as_deref().unwrap_or_default());
        copy(draft, input, secret, name.clone())?;
        references.push(LocalObjectReference { name });
    }
    Ok((!references.is_empty()).then_some(references))
}

fn copy(
    draft: &mut Draft<'_>,
    input: &Input<'_>,
    secret: &PullSecret,
    name: String,
) -> Result<(), Fault> {
    let (original, present) = (&secret.original, secret.copy.as_ref());
    let made = labels::CREATED_BY_VOLSYNC;
    if let Some(present) = present
        && !has_label(&present.metadata, labels::CREATED_BY, made)
    {
        return Err(Fault::NameConflict {
            kind: "Secret",
            namespace: input.namespace().to_owned(),
            name,
            owner: crate::kinds::kind_of(input.subject.key.side),
        });
    }
    let known: Vec<OwnerReference> = present
        .into_iter()
        .flat_map(|present| owners(&present.metadata).cloned())
        .collect();
    let is_owner = known.iter().any(|owner| owner.uid == input.subject.uid);
    let current = present
        .is_some_and(|present| present.data == original.data && present.type_ == original.type_);
    if is_owner && current {
        return Ok(());
    }
    let mut all = known;
    if !is_owner {
        all.push(OwnerReference {
            controller: None,
            block_owner_deletion: None,
            ..input.subject.owner()
        });
    }
    let wanted = Secret {
        metadata: ObjectMeta {
            owner_references: Some(all),
            // Two resources may add themselves at the same time; the later one has to look again, or the earlier would be
            // forgotten.
            resource_version: present.and_then(|present| present.metadata.resource_version.clone()),
            ..input.metadata(name)
        },
        data: original.data.clone(),
        type_: original.type_.clone(),
        ..Secret::default()
    };
    draft.plan.apply.push(Object::Secret(Box::new(wanted)));
    Ok(())
}

/// Whether a service account refers to copies that are wanted no more.
pub(super) fn has_leftovers(
    account: &ServiceAccount,
    wanted: Option<&Vec<LocalObjectReference>>,
) -> bool {
    let present = account.image_pull_secrets.iter().flatten();
    let mut copies = present.filter(|reference| reference.name.starts_with(PREFIX));
    copies.any(|reference| wanted.is_none_or(|wanted| !wanted.contains(reference)))
}
