//! What a mover's container may do.
//!
//! | mover | namespace without the annotation | namespace with `volsync.backube/privileged-movers: "true"` |
//! | --- | --- | --- |
//! | rsync over ssh | root with `VolSync`'s capabilities | the same |
//! | rsync over ssh with `moverSecurityContext` | none | root with `VolSync`'s capabilities |
//! | all others | none | root with `VolSync`'s capabilities |
//!
//! "None" passes the pod security level `restricted`.

use k8s_openapi::api::core::v1::{
    Capabilities, Namespace, PodSecurityContext, SeccompProfile, SecurityContext,
};
use syncline_api::labels;
use syncline_api::names::Mover;

use super::super::Input;
use crate::subject::annotation;
use crate::validate::Validated;

/// What a mover's container may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plan) enum Rights {
    /// It is root with these capabilities.
    Root(&'static [&'static str]),
    /// It is whoever the pod's security context says, and can do nothing beyond.
    None,
}

/// What the mover may do that a resource chooses.
pub(in crate::plan) fn rights(input: &Input<'_>, wish: &Validated) -> Rights {
    let always = wish.mover() == Mover::Rsync && wish.pod.security_context.is_none();
    if always || namespace_is_privileged(input) {
        Rights::Root(capabilities(wish.mover()))
    } else {
        Rights::None
    }
}

/// Whether the namespace lets its movers run with elevated rights. One that could not be read does not.
pub(in crate::plan) fn namespace_is_privileged(input: &Input<'_>) -> bool {
    let namespace = input.world.namespace.as_ref();
    namespace.is_some_and(lets_movers_be_root)
}

/// Whether a namespace has the annotation that lets movers run with elevated rights.
pub(crate) fn lets_movers_be_root(namespace: &Namespace) -> bool {
    annotation(&namespace.metadata, labels::PRIVILEGED_MOVERS)
        .is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// The capabilities that `VolSync` gives to a privileged mover.
const fn capabilities(mover: Mover) -> &'static [&'static str] {
    match mover {
        Mover::Rsync => &[
            "AUDIT_WRITE",
            "CHOWN",
            "DAC_OVERRIDE",
            "FOWNER",
            "SETGID",
            "SETUID",
            "SYS_CHROOT",
        ],
        Mover::RsyncTls => &["DAC_OVERRIDE", "CHOWN", "FOWNER", "SETGID"],
        Mover::Rclone | Mover::Restic | Mover::Syncthing => &["DAC_OVERRIDE", "CHOWN", "FOWNER"],
    }
}

/// The container's security context.
pub(super) fn context(rights: Rights, pod: Option<&PodSecurityContext>) -> SecurityContext {
    let common = |add: &[&str]| SecurityContext {
        allow_privilege_escalation: Some(false),
        privileged: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities {
            add: (!add.is_empty()).then(|| add.iter().map(|name| (*name).to_owned()).collect()),
            drop: Some(vec!["ALL".to_owned()]),
        }),
        ..SecurityContext::default()
    };
    match rights {
        Rights::Root(capabilities) => SecurityContext {
            run_as_user: Some(0),
            // The pod's may say otherwise, which would keep root from starting.
            run_as_non_root: pod
                .and_then(|pod| pod.run_as_non_root)
                .filter(|non_root| *non_root)
                .map(|_| false),
            ..common(capabilities)
        },
        Rights::None => {
            let says_who =
                pod.is_some_and(|pod| pod.run_as_non_root.is_some() || pod.run_as_user == Some(0));
            let says_how = pod.is_some_and(|pod| pod.seccomp_profile.is_some());
            SecurityContext {
                run_as_non_root: (!says_who).then_some(true),
                seccomp_profile: (!says_how).then(|| SeccompProfile {
                    type_: "RuntimeDefault".to_owned(),
                    localhost_profile: None,
                }),
                ..common(&[])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rstest::rstest;

    use super::*;

    /// What `VolSync`'s movers get where they are privileged, as its documentation and its source list it.
    #[rstest]
    #[case(Mover::Rsync, &["AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID", "SYS_CHROOT"])]
    #[case(Mover::RsyncTls, &["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID"])]
    #[case(Mover::Rclone, &["CHOWN", "DAC_OVERRIDE", "FOWNER"])]
    #[case(Mover::Restic, &["CHOWN", "DAC_OVERRIDE", "FOWNER"])]
    #[case(Mover::Syncthing, &["CHOWN", "DAC_OVERRIDE", "FOWNER"])]
    fn a_privileged_mover_is_root_with_exactly_volsyncs_capabilities(
        #[case] mover: Mover,
        #[case] volsyncs: &[&str],
    ) {
        let context = context(Rights::Root(capabilities(mover)), None);
        assert_eq!(context.run_as_user, Some(0));
        assert_eq!(context.privileged, Some(false));
        assert_eq!(context.allow_privilege_escalation, Some(false));
        assert_eq!(context.read_only_root_filesystem, Some(true));
        let given = context.capabilities.unwrap();
        assert_eq!(given.drop, Some(vec!["ALL".to_owned()]));
        let added = given.add.unwrap();
        let each_once: BTreeSet<&str> = added.iter().map(String::as_str).collect();
        assert_eq!(each_once.len(), added.len());
        assert_eq!(each_once, volsyncs.iter().copied().collect());
    }

    #[test]
    fn the_table_of_capabilities_has_every_mover() {
        // A mover that is added has to be added above, too.
        assert_eq!(Mover::ALL.len(), 5);
    }

    #[test]
    fn an_unprivileged_mover_has_no_capability_at_all() {
        let given = context(Rights::None, None).capabilities.unwrap();
        assert_eq!(given.add, None);
        assert_eq!(given.drop, Some(vec!["ALL".to_owned()]));
    }

    #[test]
    fn who_names_root_as_the_user_gets_volsyncs_root_without_a_capability() {
        let root = PodSecurityContext {
            run_as_user: Some(0),
            ..PodSecurityContext::default()
        };
        let given = context(Rights::None, Some(&root));
        assert_eq!((given.run_as_user, given.run_as_non_root), (None, None));
        assert_eq!(given.capabilities.unwrap().add, None);
        assert_eq!(context(Rights::None, None).run_as_non_root, Some(true));
    }
}
