//! What stands as long as the resource does: the mover's identity, and what its method needs besides.

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding, RoleRef, Subject as RbacSubject};
use syncline_api::names;

use super::draft::Draft;
use super::{Fault, Input, Object, pull, rclone, rsync};
use crate::validate::{Method, Validated};

/// What a run can count on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// The mover's service account.
    pub(super) service_account: String,
    /// The Secret with the mover's keys or configuration.
    pub(super) secret: String,
    /// Whether the address is still to come, without which nobody can reach the mover.
    pub(super) pending: bool,
}

/// Sees to all of it, and says in the status what the other side has to know. The first fault is returned, after all
/// that can be done was done: keys are useful to the other side even while this one waits for its volume.
pub(super) fn ensure(
    draft: &mut Draft<'_>,
    input: &Input<'_>,
    wish: &Validated,
) -> Result<Standing, Fault> {
    let account = service_account(draft, input, wish);
    draft.state.latest_mover_status.get_or_insert_default();
    match &wish.method {
        Method::Rsync(rsync) => rsync::stand(draft, input, rsync, account),
        Method::Rclone(rclone) => rclone::stand(input, rclone, account),
    }
}

fn service_account(
    draft: &mut Draft<'_>,
    input: &Input<'_>,
    wish: &Validated,
) -> Result<String, Fault> {
    let world = input.world;
    if let Some(name) = &wish.pod.service_account {
        return match &world.service_account {
            Some(_) => Ok(name.clone()),
            None => Err(Fault::ServiceAccountMissing {
                mover: wish.mover().field(),
                namespace: input.namespace().to_owned(),
                name: name.clone(),
            }),
        };
    }
    let name = names::service_account(input.subject.key.side, input.name());
    input.check_owned(
        "ServiceAccount",
        world
            .service_account
            .as_ref()
            .map(|object| &object.metadata),
    )?;
    input.check_owned("Role", world.role.as_ref().map(|object| &object.metadata))?;
    input.check_owned(
        "RoleBinding",
        world.role_binding.as_ref().map(|object| &object.metadata),
    )?;
    let pull_secrets = pull::ensure(draft, input)?;
    let present = world
        .service_account
        .as_ref()
        .filter(|account| !pull::has_leftovers(account, pull_secrets.as_ref()));
    let account = ServiceAccount {
        metadata: input.metadata(name.clone()),
        image_pull_secrets: pull_secrets,
        ..ServiceAccount::default()
    };
    draft.ensure(present, account, Object::ServiceAccount);
    // The mover asks nothing of the API server, so its role allows nothing.
    let role = Role {
        metadata: input.metadata(name.clone()),
        rules: None,
    };
    draft.ensure(world.role.as_ref(), role, Object::Role);
    let binding = RoleBinding {
        metadata: input.metadata(name.clone()),
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".to_owned(),
            kind: "Role".to_owned(),
            name: name.clone(),
        },
        subjects: Some(vec![RbacSubject {
            kind: "ServiceAccount".to_owned(),
            name: name.clone(),
            namespace: Some(input.namespace().to_owned()),
            ..RbacSubject::default()
        }]),
    };
    draft.ensure(world.role_binding.as_ref(), binding, Object::RoleBinding);
    Ok(name)
}
