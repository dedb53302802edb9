//! From a container of a pod's spec to what the launcher needs.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{
    Capabilities as WantedCapabilities, Container, Pod, PodSpec, SecurityContext,
};
use kube::ResourceExt as _;

use super::env::{command_line, environment};
use super::launcher::spec::{Capabilities, Identity, Mount, RootFile, Source, Spec};
use super::references::{Blocked, References};
use super::volumes::Volumes;
use super::{Shared, images, log};

/// Who a container is that must not be root and names nobody: the user of Syncline's image, as a kubelet would take it.
const IMAGE_USER: u32 = 65532;
/// The annotation with further user names that map to the container's uid, separated by commas.
const LOGIN_NAMES: &str = "syncline.dev/login-names";

/// What containers may do when they do not say, as container runtimes have it.
const DEFAULT_CAPABILITIES: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// A container that is ready to start.
pub(crate) struct Prepared {
    pub(crate) spec: Spec,
    /// Where the program writes its termination message, on the host.
    pub(crate) message_file: PathBuf,
}

/// Finds and makes all that the container needs.
pub(crate) async fn prepare(
    shared: &Shared,
    references: &References<'_>,
    container: &Container,
) -> Result<Prepared, Blocked> {
    let pod = references.pod;
    let spec = pod.spec.clone().unwrap_or_default();
    let image = container.image.as_deref().unwrap_or_default();
    let found = images::find(&shared.images, image);
    let refused = || Blocked::Config {
        reason: "ErrImageNeverPull",
        message: images::refusal(&shared.images, image),
    };
    let found = found.ok_or_else(refused)?;
    let program = format!("/{}", found.name);
    let executable = std::fs::canonicalize(found.executable).map_err(|error| {
        let path = found.executable.display();
        Blocked::config(format!(
            "the program {path} of image {image} cannot be used: {error}"
        ))
    })?;
    let hostname = hostname(pod, &spec);
    let env = environment(container, &hostname, shared.programs.is_some(), references).await?;
    let identity = identity(&spec, container, shared.privileged)?;
    let uid = pod.uid().unwrap_or_default();
    let folder = log::folder(&shared.data_dir, &uid, &container.name);
    let volumes = Volumes {
        references,
        spec: &spec,
        pod_dir: shared.pod_dir(&uid),
        data_dir: &shared.data_dir,
        privileged: shared.privileged,
    };
    let mut mounts = volumes.mounts(container, &env).await?;
    let message_file = own_files(&folder).map_err(|error| {
        Blocked::config(format!("cannot prepare {}: {error}", folder.display()))
    })?;
    mounts.push(for_message(container, &message_file));
    let context = container.security_context.as_ref();
    let spec = Spec {
        root_mount_point: folder.join("root"),
        executable,
        argv: command_line(container, &program, &env),
        executable_target: PathBuf::from(program),
        programs: shared.programs.clone(),
        env,
        working_dir: PathBuf::from(
            container
                .working_dir
                .as_deref()
                .filter(|dir| !dir.is_empty())
                .unwrap_or("/"),
        ),
        mounts,
        root_files: root_files(&hostname, &spec, references),
        hostname,
        read_only_root: context
            .is_some_and(|context| context.read_only_root_filesystem == Some(true)),
        login_names: login_names(pod, shared.uid_of(&identity)),
        identity,
    };
    Ok(Prepared { spec, message_file })
}

/// Where the container writes its termination message.
fn for_message(container: &Container, file: &Path) -> Mount {
    let path = container.termination_message_path.as_deref();
    Mount {
        target: PathBuf::from(path.unwrap_or("/dev/termination-log")),
        source: Source::Host {
            path: file.to_owned(),
            sub_path: None,
        },
        read_only: false,
    }
}

/// The container's own folder: a place for its root, and an empty file for its termination message.
fn own_files(folder: &Path) -> io::Result<PathBuf> {
    std::fs::create_dir_all(folder.join("root"))?;
    let message = folder.join("termination-log");
    std::fs::write(&message, [])?;
    // The container may run as anybody.
    std::fs::set_permissions(&message, std::fs::Permissions::from_mode(0o666))?;
    Ok(message)
}

fn hostname(pod: &Pod, spec: &PodSpec) -> String {
    let name = spec.hostname.clone().unwrap_or_else(|| pod.name_any());
    name.chars()
        .take(63)
        .collect::<String>()
        .trim_end_matches(['-', '.'])
        .to_owned()
}

fn login_names(pod: &Pod, uid: u32) -> Vec<String> {
    match pod.annotations().get(LOGIN_NAMES) {
        Some(names) => names
            .split(',')
            .map(|name| name.trim().to_owned())
            .collect(),
        None if uid == 0 => vec!["root".to_owned()],
        None => vec!["root".to_owned(), "syncline".to_owned()],
    }
}

/// Who the container runs as. For an ordinary caller the launcher takes the caller instead.
pub(crate) fn identity(
    spec: &PodSpec,
    container: &Container,
    privileged: bool,
) -> Result<Identity, Blocked> {
    let of_pod = spec.security_context.clone().unwrap_or_default();
    let of_container = container.security_context.clone().unwrap_or_default();
    let id = |wanted: Option<i64>| wanted.and_then(|id| u32::try_from(id).ok());
    let non_root = of_container.run_as_non_root.or(of_pod.run_as_non_root) == Some(true);
    let told = id(of_container.run_as_user.or(of_pod.run_as_user));
    let of_image = if non_root && told.is_none() {
        IMAGE_USER
    } else {
        0
    };
    let uid = told.unwrap_or(of_image);
    let gid = id(of_container.run_as_group.or(of_pod.run_as_group)).unwrap_or(of_image);
    if non_root && uid == 0 && privileged {
        return Err(Blocked::config(format!(
            "container has runAsNonRoot and image will run as root (container: {}); set runAsUser",
            container.name
        )));
    }
    let supplemental = of_pod.supplemental_groups.unwrap_or_default();
    let groups = supplemental
        .into_iter()
        .chain(of_pod.fs_group)
        .filter_map(|group| id(Some(group)));
    Ok(Identity {
        uid,
        gid,
        groups: groups.collect(),
        capabilities: capabilities(&of_container),
        no_new_privileges: of_container.allow_privilege_escalation == Some(false),
    })
}

fn capabilities(context: &SecurityContext) -> Capabilities {
    let wanted = context.capabilities.clone().unwrap_or_default();
    let WantedCapabilities { add, drop } = wanted;
    let bare = |name: String| name.strip_prefix("CAP_").map(str::to_owned).unwrap_or(name);
    let add: Vec<String> = add.into_iter().flatten().map(bare).collect();
    let drop: Vec<String> = drop.into_iter().flatten().map(bare).collect();
    if context.privileged == Some(true) || add.iter().any(|name| name == "ALL") {
        return Capabilities::All;
    }
    let defaults = DEFAULT_CAPABILITIES.iter().map(ToString::to_string);
    let kept =
        defaults.filter(|name| !drop.contains(name) && !drop.iter().any(|name| name == "ALL"));
    let mut kept: Vec<String> = kept.collect();
    kept.extend(add);
    Capabilities::Only(kept)
}

/// Names are resolved as the host does it: pods share its network.
fn root_files(hostname: &str, spec: &PodSpec, references: &References<'_>) -> Vec<RootFile> {
    let of_host = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let mut hosts = of_host("/etc/hosts");
    if !hosts.is_empty() && !hosts.ends_with('\n') {
        hosts.push('\n');
    }
    let pod_line = format!("{} {hostname}\n", references.pod_ip);
    let aliases = spec.host_aliases.iter().flatten();
    let aliases = aliases.map(|alias| {
        format!(
            "{} {}\n",
            alias.ip,
            alias
                .hostnames
                .iter()
                .flatten()
                .cloned()
                .collect::<Vec<_>>()
                .join(" ")
        )
    });
    let hosts = aliases.fold(
        format!("127.0.0.1 localhost\n::1 localhost\n{pod_line}{hosts}"),
        |all, line| all + &line,
    );
    let nsswitch = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\nprotocols: files\n";
    let file = |path: &str, content: String| RootFile {
        path: PathBuf::from(path),
        content,
    };
    vec![
        file("/etc/hosts", hosts),
        file("/etc/hostname", format!("{hostname}\n")),
        file("/etc/resolv.conf", of_host("/etc/resolv.conf")),
        file("/etc/nsswitch.conf", nsswitch.to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn context(context: serde_json::Value) -> SecurityContext {
        serde_json::from_value(context).unwrap()
    }

    #[test]
    fn dropping_all_leaves_what_is_added() {
        let wanted = json!({"capabilities": {"drop": ["ALL"], "add": ["CHOWN", "CAP_SETUID"]}});
        assert_eq!(
            capabilities(&context(wanted)),
            Capabilities::Only(vec!["CHOWN".to_owned(), "SETUID".to_owned()])
        );
    }

    #[test]
    fn without_a_word_a_container_has_the_usual_capabilities() {
        let Capabilities::Only(kept) = capabilities(&SecurityContext::default()) else {
            panic!("all")
        };
        assert_eq!(kept, DEFAULT_CAPABILITIES);
        assert_eq!(
            capabilities(&context(json!({"privileged": true}))),
            Capabilities::All
        );
    }

    #[test]
    fn run_as_non_root_refuses_root() {
        let spec = PodSpec::default();
        let container = Container {
            security_context: Some(context(json!({"runAsNonRoot": true, "runAsUser": 0}))),
            ..Container::default()
        };
        assert!(identity(&spec, &container, true).is_err());
        assert!(identity(&spec, &container, false).is_ok());
    }

    #[test]
    fn who_must_not_be_root_and_names_nobody_is_the_user_of_the_image() {
        let spec = PodSpec::default();
        let container = |context_of: serde_json::Value| Container {
            security_context: Some(context(context_of)),
            ..Container::default()
        };
        let ids = |container: Container| {
            let found = identity(&spec, &container, true).unwrap();
            (found.uid, found.gid)
        };
        assert_eq!(
            ids(container(json!({"runAsNonRoot": true}))),
            (65532, 65532)
        );
        assert_eq!(
            ids(container(json!({"runAsNonRoot": true, "runAsUser": 7}))),
            (7, 0)
        );
        assert_eq!(ids(container(json!({}))), (0, 0));
    }
}
