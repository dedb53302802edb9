//! rsync over ssh: keys and a Service that stand, and the container of a run.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, EnvVar, EnvVarSource, ObjectFieldSelector, Volume, VolumeDevice,
};
use syncline_api::names::{self, Side};
use syncline_api::report::Report;
use syncline_api::{env, labels};

use super::copies::Data;
use super::draft::Draft;
use super::job::{DATA, Run, data_volume, debugging, guard, program, variable};
use super::pod::{self, Parts, Rights, in_memory, mount};
use super::standing::Standing;
use super::{Fault, Input, keys, service};
use crate::status::RsyncState;
use crate::validate::{Rsync, Validated};

/// Where the pod finds a volume that is a block device; `VolSync`'s place.
const DEVICE: &str = "/dev/block";

/// The labels by which a Service finds the mover's pod.
pub(super) fn pod_labels(side: Side, name: &str) -> BTreeMap<String, String> {
    [
        (labels::NAME.to_owned(), names::label_value(side, name)),
        (
            labels::COMPONENT.to_owned(),
            labels::COMPONENT_RSYNC.to_owned(),
        ),
        (
            labels::PART_OF.to_owned(),
            labels::PART_OF_VOLSYNC.to_owned(),
        ),
    ]
    .into()
}

/// Sees to keys and Service, and says in the status what the other side has to know.
pub(super) fn stand(
    draft: &mut Draft<'_>,
    input: &Input<'_>,
    rsync: &Rsync,
    account: Result<String, Fault>,
) -> Result<Standing, Fault> {
    let old = draft.state.rsync.clone().unwrap_or_default();
    let keys = keys::ensure(draft, input, rsync);
    let service = service::ensure(draft, input, rsync);
    let published = keys
        .as_ref()
        .map_or_else(|_| old.ssh_keys.clone(), |keys| keys.published.clone());
    draft.state.rsync = Some(RsyncState {
        ssh_keys: published,
        address: service.address,
        port: Some(i32::from(rsync.port.unwrap_or(input.settings.rsync_port))),
        ..old
    });
    let standing = Standing {
        service_account: account?,
        secret: keys?.mounted,
        pending: service.pending,
    };
    match service.fault {
        Some(fault) => Err(fault),
        None => Ok(standing),
    }
}

/// Notes what the report of a source's successful run says of the volume.
pub(super) fn record(draft: &mut Draft<'_>, run: &Run, report: Option<&Report>) {
    let entries = report.and_then(|report| report.entries);
    if let Some(rsync) = draft.state.rsync.as_mut() {
        rsync.last_synced_entries = entries.or(rsync.last_synced_entries);
        if entries == Some(0) && run.allowed_empty_source.is_some() {
            rsync
                .allowed_empty_source
                .clone_from(&run.allowed_empty_source);
        }
    }
}

/// What it brings to its pod.
pub(super) fn parts(
    input: &Input<'_>,
    (wish, rsync): (&Validated, &Rsync),
    data: &Data,
    standing: &Standing,
) -> Parts {
    let key = &input.subject.key;
    let mut names = vec!["root"];
    names.extend(rsync.user.as_deref().filter(|user| *user != "root"));
    Parts {
        labels: pod_labels(key.side, &key.name),
        annotations: [(labels::LOGIN_NAMES.to_owned(), names.join(","))].into(),
        container: container(input, (wish, rsync), data),
        volumes: volumes(input, wish, data, standing),
        service_account: standing.service_account.clone(),
        placement: data.placement.clone(),
    }
}

fn container(input: &Input<'_>, of: (&Validated, &Rsync), data: &Data) -> Container {
    let mut mounts = vec![
        mount("keys", "/keys", false),
        mount("tempsshdir", "/root/.ssh", false),
        mount("tempdir", "/tmp", false),
    ];
    if !data.block {
        mounts.insert(0, mount(DATA, "/data", data.read_only));
    }
    let device = VolumeDevice {
        name: DATA.to_owned(),
        device_path: DEVICE.to_owned(),
    };
    Container {
        env: Some(environment(input, of, data)),
        volume_mounts: Some(mounts),
        volume_devices: data.block.then(|| vec![device]),
        ..program(input)
    }
}

fn environment(input: &Input<'_>, (wish, rsync): (&Validated, &Rsync), data: &Data) -> Vec<EnvVar> {
    let mut all = vec![EnvVar {
        name: env::POD_IP.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: "status.podIP".to_owned(),
                api_version: None,
            }),
            ..EnvVarSource::default()
        }),
    }];
    if input.subject.key.side == Side::Source {
        let port = rsync.port.unwrap_or(input.settings.rsync_port);
        let address = rsync.address.clone();
        all.extend(address.map(|address| variable(env::DESTINATION_ADDRESS, address)));
        all.push(variable(env::DESTINATION_PORT, port.to_string()));
        all.extend(guard(input));
    }
    if data.block {
        all.push(variable(env::BLOCK_DEVICE, DEVICE));
    }
    // A device has no folders.
    let path = rsync.path.clone().filter(|_| !data.block);
    all.extend(path.map(|path| variable(env::DESTINATION_PATH, path)));
    let user = rsync.user.clone();
    all.extend(user.map(|user| variable(env::DESTINATION_USER, user)));
    if pod::rights(input, wish) == Rights::None {
        all.push(variable(env::PRIVILEGED_MOVER, "0"));
    }
    all.extend(debugging(input));
    all
}

fn volumes(input: &Input<'_>, wish: &Validated, data: &Data, standing: &Standing) -> Vec<Volume> {
    let mode = pod::secret_mode(input, wish);
    vec![
        data_volume(data),
        pod::secret("keys", &standing.secret, mode),
        in_memory("tempsshdir"),
        in_memory("tempdir"),
    ]
}
