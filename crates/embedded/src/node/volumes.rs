//! A pod's volumes, as what its root mounts.

use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{
    Container, DownwardAPIVolumeFile, EmptyDirVolumeSource, HostPathVolumeSource, KeyToPath,
    PersistentVolume, PersistentVolumeClaim, PodSpec, ProjectedVolumeSource, Volume, VolumeMount,
};
use kube::Api;

use super::env::expand;
use super::launcher::spec::{Mount, Source, VolumeFile};
use super::quantity;
use super::references::{Blocked, Holder, References, resource};

/// Permission bits of a file whose volume does not say.
const DEFAULT_MODE: i32 = 0o644;

/// What volumes are made from.
pub(crate) struct Volumes<'a> {
    /// The pod and what it refers to.
    pub(crate) references: &'a References<'a>,
    /// Its spec.
    pub(crate) spec: &'a PodSpec,
    /// The pod's own folder under the data folder.
    pub(crate) pod_dir: PathBuf,
    /// The cluster's data folder.
    pub(crate) data_dir: &'a Path,
    /// Whether files can be given to `fsGroup`.
    pub(crate) privileged: bool,
}

impl Volumes<'_> {
    /// The mounts of a container, parents before children.
    pub(crate) async fn mounts(
        &self,
        container: &Container,
        env: &[(String, String)],
    ) -> Result<Vec<Mount>, Blocked> {
        let known = env.iter().cloned().collect();
        let mut mounts = self.devices(container).await?;
        for wanted in container.volume_mounts.iter().flatten() {
            let volume = self.volume(&wanted.name)?;
            let sub_path = match &wanted.sub_path_expr {
                Some(expression) => Some(expand(expression, &known)),
                None => wanted.sub_path.clone().filter(|path| !path.is_empty()),
            };
            mounts.push(
                self.mount(volume, wanted, sub_path.map(PathBuf::from))
                    .await?,
            );
        }
        mounts.sort_by_key(|mount| mount.target.components().count());
        Ok(mounts)
    }

    fn volume(&self, name: &str) -> Result<&Volume, Blocked> {
        let mut volumes = self.spec.volumes.iter().flatten();
        volumes
            .find(|volume| volume.name == name)
            .ok_or_else(|| Blocked::mount(name, "the pod has no volume of this name".to_owned()))
    }

    /// Block volumes: each a file, which stands where the pod looks for the device.
    async fn devices(&self, container: &Container) -> Result<Vec<Mount>, Blocked> {
        let mut mounts = Vec::new();
        for wanted in container.volume_devices.iter().flatten() {
            let volume = self.volume(&wanted.name)?;
            let other = || {
                let message = "a volumeDevice is a persistentVolumeClaim; mount other volumes by volumeMounts";
                Blocked::mount(&wanted.name, message.to_owned())
            };
            let claim = volume.persistent_volume_claim.as_ref().ok_or_else(other)?;
            let path = self.claim(&volume.name, &claim.claim_name).await?;
            if path.is_dir() {
                let message = format!(
                    "volume {} has volumeMode Filesystem, but is specified in volumeDevices",
                    wanted.name
                );
                return Err(Blocked::mount(&wanted.name, message));
            }
            mounts.push(Mount {
                target: PathBuf::from(&wanted.device_path),
                source: Source::Host {
                    path,
                    sub_path: None,
                },
                read_only: claim.read_only == Some(true),
            });
        }
        Ok(mounts)
    }

    async fn mount(
        &self,
        volume: &Volume,
        wanted: &VolumeMount,
        sub_path: Option<PathBuf>,
    ) -> Result<Mount, Blocked> {
        let target = PathBuf::from(&wanted.mount_path);
        let mut read_only = wanted.read_only == Some(true);
        let host = |path| Source::Host {
            path,
            sub_path: sub_path.clone(),
        };
        let source = if let Some(claim) = &volume.persistent_volume_claim {
            read_only |= claim.read_only == Some(true);
            let path = self.claim(&volume.name, &claim.claim_name).await?;
            if path.is_file() {
                let message = format!(
                    "volume {} has volumeMode Block, but is specified in volumeMounts",
                    volume.name
                );
                return Err(Blocked::mount(&volume.name, message));
            }
            host(path)
        } else if let Some(empty) = &volume.empty_dir {
            if self.in_memory(volume, empty) && sub_path.is_none() {
                let size = empty
                    .size_limit
                    .as_ref()
                    .and_then(|limit| quantity::bytes(&limit.0));
                return Ok(Mount {
                    target,
                    source: Source::Memory { size },
                    read_only,
                });
            }
            host(self.empty_dir(&volume.name).await?)
        } else if let Some(of_host) = &volume.host_path {
            host(host_path(&volume.name, of_host).await?)
        } else {
            let files = self.files(volume).await?;
            read_only = true;
            Source::Files {
                files,
                group: self.fs_group(),
                sub_path,
            }
        };
        Ok(Mount {
            target,
            source,
            read_only,
        })
    }

    fn fs_group(&self) -> Option<u32> {
        let group = self
            .spec
            .security_context
            .as_ref()
            .and_then(|context| context.fs_group);
        group
            .filter(|_| self.privileged)
            .and_then(|group| u32::try_from(group).ok())
    }

    /// Memory lives in one container's mount namespace: what several containers share, or what must outlast a restart
    /// of its container, is a folder instead.
    fn in_memory(&self, volume: &Volume, empty: &EmptyDirVolumeSource) -> bool {
        let containers = self
            .spec
            .containers
            .iter()
            .chain(self.spec.init_containers.iter().flatten());
        let uses = containers.flat_map(|container| container.volume_mounts.iter().flatten());
        let uses = uses.filter(|mount| mount.name == volume.name).count();
        empty.medium.as_deref() == Some("Memory")
            && uses == 1
            && self.spec.restart_policy.as_deref() == Some("Never")
    }

    async fn empty_dir(&self, volume: &str) -> Result<PathBuf, Blocked> {
        let path = self.pod_dir.join("_volumes").join(volume);
        let group = self.fs_group();
        let made = path.clone();
        blocking(volume, move || {
            use std::os::unix::fs::PermissionsExt as _;
            if !made.is_dir() {
                std::fs::create_dir_all(&made)?;
                std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o777))?;
                give_to_group(&made, group)?;
            }
            Ok(())
        })
        .await?;
        Ok(path)
    }

    /// The folder behind a claim. `fsGroup` changes the owner of what the cluster made, never of an adopted folder.
    async fn claim(&self, volume: &str, name: &str) -> Result<PathBuf, Blocked> {
        let client = self.references.client.clone();
        let claims: Api<PersistentVolumeClaim> =
            Api::namespaced(client.clone(), &self.references.namespace());
        let absent = || {
            Blocked::mount(
                volume,
                format!("persistentvolumeclaim \"{name}\" not found"),
            )
        };
        let claim = claims.get_opt(name).await?.ok_or_else(absent)?;
        let bound = claim
            .spec
            .and_then(|spec| spec.volume_name)
            .filter(|bound| !bound.is_empty());
        let unbound = || {
            Blocked::mount(
                volume,
                format!("persistentvolumeclaim \"{name}\" is not bound"),
            )
        };
        let bound = bound.ok_or_else(unbound)?;
        let absent = || Blocked::mount(volume, format!("persistentvolume \"{bound}\" not found"));
        let persistent = Api::<PersistentVolume>::all(client)
            .get_opt(&bound)
            .await?
            .ok_or_else(absent)?;
        let spec = persistent.spec.unwrap_or_default();
        let path = spec
            .host_path
            .map(|host| host.path)
            .or_else(|| spec.local.map(|local| local.path));
        let foreign = || {
            let message = format!(
                "persistentvolume \"{bound}\" is neither hostPath nor local: the embedded cluster mounts folders only"
            );
            Blocked::mount(volume, message)
        };
        let path = PathBuf::from(path.ok_or_else(foreign)?);
        if !tokio::fs::try_exists(&path).await.unwrap_or(false) {
            let message = format!(
                "the folder {} of persistentvolume \"{bound}\" is gone",
                path.display()
            );
            return Err(Blocked::mount(volume, message));
        }
        if let Some(group) = self.fs_group().filter(|_| path.starts_with(self.data_dir)) {
            let folder = path.clone();
            blocking(volume, move || give_to_group(&folder, Some(group))).await?;
        }
        Ok(path)
    }

    async fn files(&self, volume: &Volume) -> Result<Vec<VolumeFile>, Blocked> {
        let name = volume.name.as_str();
        if let Some(secret) = &volume.secret {
            let from = secret.secret_name.as_deref().unwrap_or_default();
            let chosen = Chosen {
                items: secret.items.as_deref(),
                mode: secret.default_mode,
                optional: secret.optional,
            };
            return self.of_holder(name, Holder::Secret, from, &chosen).await;
        }
        if let Some(map) = &volume.config_map {
            let chosen = Chosen {
                items: map.items.as_deref(),
                mode: map.default_mode,
                optional: map.optional,
            };
            return self
                .of_holder(name, Holder::ConfigMap, &map.name, &chosen)
                .await;
        }
        if let Some(downward) = &volume.downward_api {
            return self.downward(
                name,
                downward.items.as_deref().unwrap_or_default(),
                downward.default_mode,
            );
        }
        if let Some(projected) = &volume.projected {
            return self.projected(name, projected).await;
        }
        let message = "the embedded cluster has volumes of the kinds persistentVolumeClaim, emptyDir, hostPath, secret, configMap, downwardAPI and projected only";
        Err(Blocked::mount(name, message.to_owned()))
    }

    async fn projected(
        &self,
        name: &str,
        projected: &ProjectedVolumeSource,
    ) -> Result<Vec<VolumeFile>, Blocked> {
        let mode = projected.default_mode;
        let mut files = Vec::new();
        for source in projected.sources.iter().flatten() {
            if let Some(secret) = &source.secret {
                let chosen = Chosen {
                    items: secret.items.as_deref(),
                    mode,
                    optional: secret.optional,
                };
                files.extend(
                    self.of_holder(name, Holder::Secret, &secret.name, &chosen)
                        .await?,
                );
            } else if let Some(map) = &source.config_map {
                let chosen = Chosen {
                    items: map.items.as_deref(),
                    mode,
                    optional: map.optional,
                };
                files.extend(
                    self.of_holder(name, Holder::ConfigMap, &map.name, &chosen)
                        .await?,
                );
            } else if let Some(downward) = &source.downward_api {
                files.extend(self.downward(
                    name,
                    downward.items.as_deref().unwrap_or_default(),
                    mode,
                )?);
            } else {
                let message = "the embedded cluster issues no service account tokens and no trust bundles: leave this source out, and set automountServiceAccountToken: false";
                return Err(Blocked::mount(name, message.to_owned()));
            }
        }
        Ok(files)
    }

    async fn of_holder(
        &self,
        volume: &str,
        holder: Holder,
        name: &str,
        chosen: &Chosen<'_>,
    ) -> Result<Vec<VolumeFile>, Blocked> {
        let optional = chosen.optional == Some(true);
        let Some(values) = self.references.values(holder, name).await? else {
            return if optional {
                Ok(Vec::new())
            } else {
                Err(Blocked::mount(volume, holder.absent(name)))
            };
        };
        let mode = chosen.mode.unwrap_or(DEFAULT_MODE);
        let Some(items) = chosen.items.filter(|items| !items.is_empty()) else {
            let file = |(key, data)| VolumeFile {
                path: PathBuf::from(key),
                mode: bits(mode),
                data,
            };
            return Ok(values.into_iter().map(file).collect());
        };
        let mut files = Vec::new();
        for item in items {
            match values.get(&item.key) {
                Some(data) => {
                    let mode = bits(item.mode.unwrap_or(mode));
                    files.push(VolumeFile {
                        path: PathBuf::from(&item.path),
                        mode,
                        data: data.clone(),
                    });
                }
                None if optional => {}
                None => {
                    let kind = holder.kind().to_lowercase();
                    return Err(Blocked::mount(
                        volume,
                        format!("references non-existent {kind} key: {}", item.key),
                    ));
                }
            }
        }
        Ok(files)
    }

    fn downward(
        &self,
        volume: &str,
        items: &[DownwardAPIVolumeFile],
        mode: Option<i32>,
    ) -> Result<Vec<VolumeFile>, Blocked> {
        let mut files = Vec::new();
        for item in items {
            let field = item
                .field_ref
                .as_ref()
                .and_then(|field| self.references.field(&field.field_path));
            let resource = item.resource_field_ref.as_ref().and_then(|from| {
                let wanted = from.container_name.as_deref().unwrap_or_default();
                let container = self
                    .spec
                    .containers
                    .iter()
                    .find(|container| container.name == wanted)?;
                let divisor = from.divisor.as_ref().map(|divisor| divisor.0.as_str());
                resource(container, &from.resource, divisor)
            });
            let unknown = || {
                Blocked::mount(
                    volume,
                    format!("the field of item {} is not supported", item.path),
                )
            };
            let text = field.or(resource).ok_or_else(unknown)?;
            let mode = bits(item.mode.or(mode).unwrap_or(DEFAULT_MODE));
            files.push(VolumeFile {
                path: PathBuf::from(&item.path),
                mode,
                data: text.into_bytes(),
            });
        }
        Ok(files)
    }
}

/// Which keys of a Secret or ConfigMap a volume shows, and how.
struct Chosen<'a> {
    items: Option<&'a [KeyToPath]>,
    mode: Option<i32>,
    optional: Option<bool>,
}

fn bits(mode: i32) -> u32 {
    u32::try_from(mode).unwrap_or_default() & 0o777
}

async fn host_path(volume: &str, of_host: &HostPathVolumeSource) -> Result<PathBuf, Blocked> {
    let path = PathBuf::from(&of_host.path);
    if of_host.type_.as_deref() == Some("DirectoryOrCreate") {
        let made = path.clone();
        blocking(volume, move || std::fs::create_dir_all(made)).await?;
    }
    if !tokio::fs::try_exists(&path).await.unwrap_or(false) {
        return Err(Blocked::mount(
            volume,
            format!("hostPath {} is not there", of_host.path),
        ));
    }
    Ok(path)
}

async fn blocking<F>(volume: &str, work: F) -> Result<(), Blocked>
where
    F: FnOnce() -> io::Result<()> + Send + 'static,
{
    let done = tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other);
    done.and_then(|result| result)
        .map_err(|error| Blocked::mount(volume, error.to_string()))
}

/// Gives a tree to a group as the kubelet does for `fsGroup`: group readable and writable, folders set-group-id.
fn give_to_group(top: &Path, group: Option<u32>) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown};
    let Some(group) = group else { return Ok(()) };
    let mut pending = vec![top.to_owned()];
    while let Some(path) = pending.pop() {
        let metadata = std::fs::symlink_metadata(&path)?;
        if metadata.gid() != group {
            lchown(&path, None, Some(group))?;
        }
        if metadata.is_symlink() {
            continue;
        }
        let wanted = metadata.mode() | if metadata.is_dir() { 0o2770 } else { 0o660 };
        if wanted != metadata.mode() {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(wanted & 0o7777))?;
        }
        if metadata.is_dir() {
            for entry in std::fs::read_dir(&path)? {
                pending.push(entry?.path());
            }
        }
    }
    Ok(())
}
