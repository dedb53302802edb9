//! The Go programs: built once per state of their modules, kept outside the checkout.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest as _, Sha256};

use crate::{place, say, shell};

/// The folder with the modules.
const SOURCE: &str = env!("CARGO_MANIFEST_DIR");
/// Clients read the version from these variables; without them it is v0.0.0-master.
const KUBE_FLAGS: &str = "-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3 \
    -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36";
const PLAIN_FLAGS: &str = "-s -w";
/// The Go that the modules ask for.
const GO: (u32, u32) = (1, 26);

/// The module of Kubernetes and of what goes with it.
const KUBE: &str = "kube";
/// The module of the S3 server.
const S3: &str = "s3";

/// One Go module below this folder.
struct Module {
    name: &'static str,
    /// What `go build` is to build.
    targets: &'static [&'static str],
    linker_flags: &'static str,
    /// A program that a test does not look for under the name that Go gives it.
    renamed: Option<(&'static str, &'static str)>,
}

/// What uses Kubernetes' client is one module: with the same versions of all that they import, most of it is compiled once.
const MODULES: [Module; 5] = [
    module("etcd", Some(("server", "etcd"))),
    module("runtime", None),
    Module {
        targets: &["tool", "./coredns"],
        linker_flags: KUBE_FLAGS,
        ..module(KUBE, None)
    },
    module(S3, None),
    Module {
        targets: &["."],
        ..module("pause", None)
    },
];

const fn module(name: &'static str, renamed: Option<(&'static str, &'static str)>) -> Module {
    Module {
        name,
        targets: &["tool"],
        linker_flags: PLAIN_FLAGS,
        renamed,
    }
}

/// Where the built programs are.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    /// One folder with all of them.
    pub(crate) folder: PathBuf,
}

impl Programs {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The definitions of the snapshot resources, which belong to the snapshot controller.
    pub(crate) fn snapshot_crds(&self) -> Result<PathBuf> {
        // kubectl does not follow a link to a folder.
        fs::canonicalize(self.folder.join("crd")).context("the snapshot resources are not there")
    }

    /// A command with one of them.
    pub(crate) fn command(&self, name: &str) -> Command {
        Command::new(self.path(name))
    }
}

/// Builds what is missing, and gathers all programs in one folder.
pub(crate) fn build() -> Result<Programs> {
    let (cache, _lock) = locked_cache()?;
    let built = MODULES.iter().map(|module| built(&cache, module));
    gather(&cache, &built.collect::<Result<Vec<_>>>()?)
}

/// Builds the S3 server alone, which needs no cluster, and gives its path.
pub(crate) fn build_s3() -> Result<PathBuf> {
    let (cache, _lock) = locked_cache()?;
    let module = MODULES.iter().find(|module| module.name == S3);
    let folder = built(&cache, module.context("there is no such module")?)?;
    Ok(folder.join("versitygw"))
}

/// The folder of built programs, which is this process's until the lock goes.
fn locked_cache() -> Result<(PathBuf, File)> {
    let cache = place::cache()?;
    fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let lock = File::create(cache.join("build.lock")).context("cannot write to the cache")?;
    flock(&lock, FlockOperation::LockExclusive).context("cannot lock the cache")?;
    Ok((cache, lock))
}

/// The folder of a module's programs, which are built if they are not there.
fn built(cache: &Path, module: &Module) -> Result<PathBuf> {
    let folder = cache.join(format!("{}-{}", module.name, hash_of(module)?));
    if !folder.exists() {
        check_go()?;
        say::note(&format!(
            "building {}, once for its versions; this may take minutes",
            module.name
        ));
        say::step(&format!("building {}", module.name), || {
            build_module(module, &folder)
        })?;
    }
    Ok(folder)
}

/// The module's pinned state: what `go.sum` says, and how it is built.
fn hash_of(module: &Module) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(module.linker_flags);
    for file in ["go.mod", "go.sum", "main.go", "coredns/main.go"] {
        let path = source(module).join(file);
        match fs::read(&path) {
            Ok(content) => hash.update(content),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        }
    }
    Ok(place::hex(&hash.finalize()).chars().take(12).collect())
}

fn source(module: &Module) -> PathBuf {
    Path::new(SOURCE).join(module.name)
}

/// Builds beside the folder and moves it there when all is well, so that a folder is always whole.
fn build_module(module: &Module, folder: &Path) -> Result<()> {
    let draft = folder.with_extension("building");
    let _ = fs::remove_dir_all(&draft);
    fs::create_dir_all(&draft)?;
    let mut target = draft.clone().into_os_string();
    target.push("/");
    shell::output(
        go(module)
            .args(["build", "-trimpath", "-ldflags", module.linker_flags, "-o"])
            .arg(target)
            .args(module.targets),
    )?;
    if let Some((from, to)) = module.renamed {
        fs::rename(draft.join(from), draft.join(to))?;
    }
    if module.name == KUBE {
        copy_crds(module, &draft.join("crd"))?;
    }
    fs::rename(&draft, folder)
        .with_context(|| format!("cannot move the programs to {}", folder.display()))
}

fn go(module: &Module) -> Command {
    let mut command = Command::new("go");
    command
        .current_dir(source(module))
        .env("CGO_ENABLED", "0")
        .env("GOTOOLCHAIN", "local")
        .env("GOFLAGS", "-mod=readonly");
    command
}

fn copy_crds(module: &Module, to: &Path) -> Result<()> {
    let client = "github.com/kubernetes-csi/external-snapshotter/client/v8";
    let folder = shell::output(go(module).args(["list", "-m", "-f", "{{.Dir}}", client]))?;
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(Path::new(folder.trim()).join("config/crd"))? {
        let name = entry?.file_name();
        if name != "kustomization.yaml" {
            let from = Path::new(folder.trim()).join("config/crd").join(&name);
            fs::write(to.join(&name), fs::read(from)?)?;
        }
    }
    Ok(())
}

fn check_go() -> Result<()> {
    let cure =
        "install it (https://go.dev/dl) and put it in PATH; `make test` and `make demo` need no Go";
    let Ok(said) = shell::output(&mut shell::command(&["go", "env", "GOVERSION"])) else {
        bail!(
            "the cluster for tests is built with Go {}.{} or newer, which is not here: {cure}",
            GO.0,
            GO.1
        );
    };
    if version_of(&said).is_none_or(|version| version < GO) {
        bail!(
            "the cluster for tests is built with Go {}.{} or newer, this is {}: {cure}",
            GO.0,
            GO.1,
            said.trim()
        );
    }
    Ok(())
}

/// Major and minor number of `go1.26.8`.
fn version_of(said: &str) -> Option<(u32, u32)> {
    let mut numbers = said.trim().strip_prefix("go")?.split('.');
    let digits = |part: &str| {
        let end = part
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(part.len());
        part.get(..end)?.parse().ok()
    };
    Some((digits(numbers.next()?)?, digits(numbers.next()?)?))
}

/// One folder of links to all programs; its name changes with them.
fn gather(cache: &Path, built: &[PathBuf]) -> Result<Programs> {
    let mut hash = Sha256::new();
    for folder in built {
        hash.update(folder.as_os_str().as_encoded_bytes());
    }
    let hash: String = place::hex(&hash.finalize()).chars().take(12).collect();
    let folder = cache.join(format!("tools-{hash}"));
    if !folder.exists() {
        let draft = folder.with_extension("building");
        let _ = fs::remove_dir_all(&draft);
        fs::create_dir_all(&draft)?;
        for program in built {
            for entry in fs::read_dir(program)? {
                let entry = entry?;
                symlink(entry.path(), draft.join(entry.file_name()))?;
            }
        }
        fs::rename(&draft, &folder)?;
    }
    Ok(Programs { folder })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_go_is_read() {
        assert_eq!(version_of("go1.26.8\n"), Some((1, 26)));
        assert_eq!(version_of("go1.27rc1"), Some((1, 27)));
        assert_eq!(version_of("devel"), None);
    }

    #[test]
    fn a_module_is_known_by_what_it_pins() {
        let [one, two, ..] = &MODULES;
        assert_ne!(hash_of(one).unwrap(), hash_of(two).unwrap());
        assert_eq!(hash_of(one).unwrap(), hash_of(one).unwrap());
    }
}
