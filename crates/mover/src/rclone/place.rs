//! Where a store that is a folder of this machine may not lie: in places of the pod, which go with it. And where it may, why
//! it refuses something.

use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
use syncline_api::report::reason;

use crate::rclone::config::Config;
use crate::rclone::program::Rclone;
use crate::rclone::settings::{Places, Remote};
use crate::report::Fault;

/// What is here is memory of the pod, and anybody may write to some of it.
const DEVICES: &str = "/dev";
/// The type of a section whose store is a folder of this machine.
const LOCAL: &str = "local";
/// What stands for such a section where there is none.
const ON_THE_FLY: &str = ":local";
/// So many sections at most lead from one to the next.
const MOST_STEPS: usize = 16;
/// Where the volumes of spec.rclone.moverVolumes are.
const VOLUMES: &str = "/mnt";
/// How a path leads into one of them.
const INTO_VOLUME: &str = "let spec.rclone.rcloneDestPath, or the `remote` of its section, begin with its place, /mnt/<mountPath>/";

/// A store that is a folder of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Folder {
    /// It, as far as `rclone.conf` tells: a section may change names beneath it.
    pub(crate) path: PathBuf,
    /// The volume in which it lies, other than the one that is replicated.
    pub(crate) volume: Option<PathBuf>,
}

/// What a folder refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// To be read, by a user without the rights.
    Reading,
    /// To be written to, by a user without the rights.
    Writing,
    /// Any user, since it fails or may only be read.
    All,
}

impl Folder {
    /// Is `line` about what lies in it?
    pub(crate) fn is_in(&self, line: &str) -> bool {
        let is_all = self.path.parent().is_none();
        !is_all && self.path.to_str().is_some_and(|path| line.contains(path))
    }

    /// What is wrong where the folder that `store` is refuses something, and what helps.
    pub(crate) fn closed(&self, store: &str, refused: Refused) -> (String, String) {
        let Some(volume) = &self.volume else {
            return (
                format!(
                    "`{store}` is a folder of the mover's own pod, and lies in no volume of spec.rclone.moverVolumes"
                ),
                format!("keep the store on such a volume, and {INTO_VOLUME}"),
            );
        };
        let volume = volume.display();
        let may_not = match refused {
            Refused::Reading => "read",
            Refused::Writing => "write to",
            Refused::All => {
                return (
                    format!(
                        "`{store}` lies in the volume at {volume}, which fails or may only be read"
                    ),
                    "check how it is mounted, and its storage".to_owned(),
                );
            }
        };
        (
            format!(
                "the mover's user (uid {}) may not {may_not} `{store}` in the volume at {volume}",
                rustix::process::geteuid().as_raw()
            ),
            "give that folder to this user (chown), run the mover as the folder's owner (spec.rclone.moverSecurityContext), or \
             annotate the mover's namespace with volsync.backube/privileged-movers: \"true\""
                .to_owned(),
        )
    }
}

impl Rclone {
    /// Refuses a store that is a folder in one of the pod's own places, or above one: what lies there goes with the pod, or is
    /// the volume.
    pub(crate) fn check_place(&self, places: &Places) -> Result<(), Fault> {
        let Some(folder) = folder(self.config(), self.remote()) else {
            return Ok(());
        };
        let Some(why) = misplaced(&folder, places) else {
            return Ok(());
        };
        Err(Fault::new(
            reason::INVALID_SETTINGS,
            format!(
                "{} {why}; keep the store on one of spec.rclone.moverVolumes, and {INTO_VOLUME}",
                self.remote().data()
            ),
        ))
    }

    /// The folders of other sections, or of this machine, in which what this section names really lies.
    pub(crate) fn bases(&self) -> Vec<Remote> {
        bases(self.config(), &self.remote().section)
    }

    /// The store, if it is a folder of this machine.
    pub(crate) fn folder_of_store(&self) -> Option<Folder> {
        let path = folder(self.config(), self.remote())?;
        let volume = volume_of(&path, Path::new(VOLUMES)).map(Path::to_owned);
        Some(Folder { path, volume })
    }
}

/// Why `folder` is no place for a store, if it is none.
fn misplaced(folder: &Path, places: &Places) -> Option<String> {
    let own = [
        places.data.as_path(),
        places.scratch.as_path(),
        Path::new(DEVICES),
    ];
    if let Some(place) = own.iter().find(|place| folder.starts_with(place)) {
        return Some(format!(
            "lies in the mover's own {} and not in a store",
            place.display()
        ));
    }
    // A source would remove its own volume from there, a destination would fetch its volume into itself.
    if let Some(place) = own.iter().find(|place| place.starts_with(folder)) {
        return Some(format!(
            "holds the mover's own {} and is no store",
            place.display()
        ));
    }
    Path::new(VOLUMES)
        .starts_with(folder)
        .then(|| format!("is {VOLUMES}, where the pod's volumes are mounted, and no store"))
}

/// What is mounted beneath `volumes` where `folder` is, or will be.
fn volume_of<'a>(folder: &'a Path, volumes: &Path) -> Option<&'a Path> {
    let above = folder.ancestors().filter(|path| *path != volumes);
    let mut above = above.filter(|path| path.starts_with(volumes));
    above.find(|path| is_mounted(path))
}

fn is_mounted(path: &Path) -> bool {
    let found = statx(CWD, path, AtFlags::empty(), StatxFlags::empty());
    found.is_ok_and(|found| {
        // Where the kernel cannot tell, what is there is a volume: nobody else makes folders in that place.
        let is_told = (found.stx_attributes_mask).contains(StatxAttributes::MOUNT_ROOT);
        !is_told || (found.stx_attributes).contains(StatxAttributes::MOUNT_ROOT)
    })
}

/// The folder of this machine that the remote is, or lies in under other names, by way of whatever sections; `None` where
/// the configuration tells of none.
fn folder(config: &Config, remote: &Remote) -> Option<PathBuf> {
    let (mut section, mut path) = (remote.section.clone(), remote.path.clone());
    for _ in 0..MOST_STEPS {
        if config.option(&section, "type") == Some(LOCAL) {
            return cleaned(&path);
        }
        // Of an alias, or of one that changes names and contents on their way.
        let (next, base) = parted(config.option(&section, "remote")?);
        path = beneath(base, &path);
        match next? {
            Next::Here(_) => return cleaned(&path),
            Next::Section(name) => without_options(name).clone_into(&mut section),
        }
    }
    None
}

/// The folders to which a section leads, each by way of the one before.
fn bases(config: &Config, section: &str) -> Vec<Remote> {
    let mut bases: Vec<Remote> = Vec::new();
    while bases.len() < MOST_STEPS {
        let section = bases.last().map_or(section, |base| &base.section);
        let remote = config.option(without_options(section), "remote");
        let Some((Some(Next::Here(section) | Next::Section(section)), path)) = remote.map(parted)
        else {
            break;
        };
        bases.push(Remote {
            section: section.to_owned(),
            path: path.to_owned(),
            state_path: None,
        });
    }
    bases
}

/// Where a `remote` leads: to what rclone calls so, with options of its own perhaps.
enum Next<'a> {
    /// To a folder of this machine.
    Here(&'a str),
    Section(&'a str),
}

/// A `remote` as rclone reads it, and the path in it: a path, `section:path`, or `:type,options:path` without a section,
/// which leads on only where it is this machine's.
fn parted(remote: &str) -> (Option<Next<'_>>, &str) {
    let is_path = |start: &str| start.contains('/');
    if let Some(made_up) = remote.strip_prefix(':') {
        let (kind, path) = made_up.split_once(':').unwrap_or((made_up, ""));
        let section = remote
            .strip_suffix(path)
            .unwrap_or(remote)
            .trim_end_matches(':');
        let is_here = without_options(kind) == LOCAL;
        return (is_here.then_some(Next::Here(section)), path);
    }
    match remote.split_once(':') {
        Some((name, path)) if !is_path(name) => (Some(Next::Section(name)), path),
        _ => (Some(Next::Here(ON_THE_FLY)), remote),
    }
}

/// A section's name: `base` of `base,endpoint=…`.
fn without_options(section: &str) -> &str {
    section.split(',').next().unwrap_or(section)
}

fn beneath(base: &str, path: &str) -> String {
    if base.is_empty() {
        path.to_owned()
    } else {
        format!("{base}/{path}")
    }
}

/// The path without what leads nowhere or back, as rclone itself takes it.
fn cleaned(path: &str) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for part in std::path::absolute(path).ok()?.components() {
        if part == Component::ParentDir {
            clean.pop();
        } else {
            clean.push(part);
        }
    }
    Some(clean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const CONF: &str = "[here]\ntype = local\n\n[s3]\ntype = s3\n\n[other]\ntype = alias\nremote = here:/mnt/store\n\n\
        [hidden]\ntype = crypt\nremote = other:../../tmp\n\n[bare]\ntype = crypt\nremote = here:\n\n\
        [path]\ntype = alias\nremote = /dev/shm\n\n[made up]\ntype = crypt\nremote = :local,encoding=Raw:/tmp/x\n\n\
        [far]\ntype = crypt\nremote = s3:tmp\n\n[farther]\ntype = crypt\nremote = :s3,provider=AWS:tmp\n\n\
        [round]\ntype = alias\nremote = round:x\n\n[with options]\ntype = alias\nremote = here,encoding=Raw:/tmp\n\n\
        [nowhere]\ntype = crypt\n";

    #[rstest]
    #[case("here", "/mnt/store/db", Some("/mnt/store/db"))]
    #[case("here", "/mnt/../tmp//./db/", Some("/tmp/db"))]
    #[case("here", "/../../tmp", Some("/tmp"))]
    #[case("s3", "tmp/db", None)]
    #[case("other", "db", Some("/mnt/store/db"))]
    #[case("other", "/db", Some("/mnt/store/db"))]
    #[case("hidden", "db", Some("/tmp/db"))]
    #[case("bare", "/tmp/db", Some("/tmp/db"))]
    #[case("path", "db", Some("/dev/shm/db"))]
    #[case("made up", "db", Some("/tmp/x/db"))]
    #[case("with options", "db", Some("/tmp/db"))]
    #[case("far", "db", None)]
    #[case("farther", "db", None)]
    #[case("round", "db", None)]
    #[case("nowhere", "db", None)]
    #[case("unknown", "/tmp/db", None)]
    #[case("by_keys", "/tmp/db", Some("/tmp/db"))]
    fn a_path_leads_where_rclone_goes(
        #[case] section: &str,
        #[case] path: &str,
        #[case] wanted: Option<&str>,
    ) {
        let mut config = Config::parse(CONF).unwrap();
        let key = "RCLONE_CONFIG_BY_KEYS_TYPE";
        config.environment.push((key.to_owned(), LOCAL.to_owned()));
        let remote = Remote {
            section: section.to_owned(),
            path: path.to_owned(),
            state_path: None,
        };
        assert_eq!(folder(&config, &remote).as_deref(), wanted.map(Path::new));
        let relative = Remote {
            path: "a/../b".to_owned(),
            section: "here".to_owned(),
            ..remote
        };
        let wanted = std::env::current_dir().unwrap().join("b");
        assert_eq!(folder(&config, &relative), Some(wanted));
    }

    #[rstest]
    #[case("here", &[])]
    #[case("hidden", &[("other", "../../tmp"), ("here", "/mnt/store")])]
    #[case("path", &[(":local", "/dev/shm")])]
    #[case("far", &[("s3", "tmp")])]
    #[case("with options", &[("here,encoding=Raw", "/tmp")])]
    #[case("made up", &[(":local,encoding=Raw", "/tmp/x")])]
    #[case("farther", &[])]
    #[case("unknown", &[])]
    fn a_section_leads_into_folders_of_others(
        #[case] section: &str,
        #[case] wanted: &[(&str, &str)],
    ) {
        let config = Config::parse(CONF).unwrap();
        let found = bases(&config, section);
        let found = found.iter().map(|base| (&*base.section, &*base.path));
        assert_eq!(found.collect::<Vec<_>>(), wanted);
        assert!(bases(&config, "round").len() <= MOST_STEPS);
    }

    #[rstest]
    #[case("/data", Some("lies in the mover's own /data and not in a store"))]
    #[case("/tmp/db", Some("lies in the mover's own /tmp and not in a store"))]
    #[case("/dev/shm", Some("lies in the mover's own /dev and not in a store"))]
    #[case("/", Some("holds the mover's own /data and is no store"))]
    #[case(
        "/mnt",
        Some("is /mnt, where the pod's volumes are mounted, and no store")
    )]
    #[case("/mnt/store", None)]
    #[case("/mnt/store/db", None)]
    #[case("/database", None)]
    fn a_store_lies_neither_in_nor_above_the_pods_own_places(
        #[case] folder: &str,
        #[case] wanted: Option<&str>,
    ) {
        let found = misplaced(Path::new(folder), &Places::read(&|_| None));
        assert_eq!(found.as_deref(), wanted);
    }

    #[rstest]
    #[case("/proc/self/db", "/", Some("/proc"))]
    #[case("/proc", "/", Some("/proc"))]
    #[case("/proc/not/there", "/proc", None)]
    #[case("/nowhere/db", "/", None)]
    #[case("/proc/db", "/mnt", None)]
    fn a_volume_is_what_is_mounted_above_a_folder(
        #[case] folder: &str,
        #[case] volumes: &str,
        #[case] wanted: Option<&str>,
    ) {
        let found = volume_of(Path::new(folder), Path::new(volumes));
        assert_eq!(found, wanted.map(Path::new));
    }
}
