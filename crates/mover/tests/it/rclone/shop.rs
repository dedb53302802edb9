//! A store, volumes, and movers between them.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::pair::{Ended, MOVER, ORDINARY_UID, Running, is_root, run, unused_address};

/// A time for which a run may trust what it saw of its marker that a test can wait for. A third of it is what one writing of a
/// marker may take, and many times what a start of rclone takes on a machine with much to do.
pub(super) const SHORT_LEASE: (&str, &str) = ("SYNCLINE_LEASE_MS", "24000");

/// The stock rclone: that of `RCLONE`, else the one that `tests/tools/fetch-rclone` keeps.
pub(crate) fn rclone() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(told) = std::env::var_os("RCLONE") {
            return told.into();
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tools/fetch-rclone");
        let output = Command::new(script)
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "rclone cannot be fetched; set RCLONE"
        );
        String::from_utf8(output.stdout).unwrap().trim().into()
    })
}

/// What the store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A folder of this machine.
    Local,
    /// The same with names and contents encrypted.
    Crypt,
    /// OpenSSH's server.
    Sftp,
}

/// A store with the volumes `src` and `dst`.
pub(crate) struct Shop {
    folder: tempfile::TempDir,
    pub(crate) path: String,
    server: Option<std::process::Child>,
}

impl Drop for Shop {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

impl Shop {
    fn in_folder(folder: tempfile::TempDir) -> Self {
        let shop = Self {
            path: String::new(),
            folder,
            server: None,
        };
        for name in ["src", "dst", "tmp", "config", "store"] {
            std::fs::create_dir(shop.path(name)).unwrap();
        }
        shop
    }

    fn folder() -> tempfile::TempDir {
        tempfile::Builder::new()
            .prefix("r")
            .tempdir_in("/tmp")
            .unwrap()
    }

    /// With a server's store, at `path` in the section `store` of `config`.
    pub(crate) fn with(config: &str, path: String) -> Self {
        let mut shop = Self::in_folder(Self::folder());
        shop.path = path;
        std::fs::write(shop.path("config/rclone.conf"), config).unwrap();
        shop
    }

    pub(crate) fn new(kind: Kind) -> Self {
        let folder = Self::folder();
        let mut shop = Self::in_folder(folder);
        let store = shop.path("store");
        let (config, path) = match kind {
            Kind::Local => (
                "[store]\ntype = local\n".to_owned(),
                store.join("data").display().to_string(),
            ),
            Kind::Crypt => (crypt_config(&store), "data".to_owned()),
            Kind::Sftp => (shop.serve_sftp(), store.join("data").display().to_string()),
        };
        shop.path = path;
        std::fs::write(shop.path("config/rclone.conf"), config).unwrap();
        shop
    }

    /// With `path` of a store that this section of `rclone.conf` names.
    pub(crate) fn of(section: &str, path: &str) -> Self {
        let mut shop = Self::new(Kind::Local);
        std::fs::write(shop.path("config/rclone.conf"), section).unwrap();
        shop.path = path.to_owned();
        shop
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn src(&self) -> PathBuf {
        self.path("src")
    }

    pub(crate) fn dst(&self) -> PathBuf {
        self.path("dst")
    }

    /// The objects of a local store.
    pub(crate) fn objects(&self) -> PathBuf {
        self.path("store/data")
    }

    /// What lies beside them.
    pub(crate) fn state(&self) -> PathBuf {
        self.path("store/data-syncline")
    }

    /// Runs sshd with its own SFTP server and gives rclone's section for it.
    fn serve_sftp(&mut self) -> String {
        let address = unused_address();
        for name in ["host", "user"] {
            crate::pair::make_key(&self.path(name), "ed25519");
            std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(0o600))
                .unwrap();
        }
        std::fs::copy(self.path("user.pub"), self.path("authorized")).unwrap();
        let _ = std::fs::create_dir_all("/run/sshd");
        let config = format!(
            "Port 2022\nListenAddress {address}\nHostKey {host}\nAuthorizedKeysFile {authorized}\nStrictModes no\nUsePAM no\n\
             PidFile none\nPasswordAuthentication no\nSubsystem sftp internal-sftp\nMaxStartups 100\n",
            host = self.path("host").display(),
            authorized = self.path("authorized").display(),
        );
        std::fs::write(self.path("sshd_config"), config).unwrap();
        let log = std::fs::File::create(self.path("sshd.log")).unwrap();
        let server = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(self.path("sshd_config"))
            .stderr(log)
            .spawn()
            .unwrap();
        self.server = Some(server);
        crate::pair::until("sshd listens", || {
            std::fs::read_to_string(self.path("sshd.log"))
                .unwrap()
                .contains("Server listening")
        });
        let user =
            String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
        format!(
            "[store]\ntype = sftp\nhost = {address}\nport = 2022\nuser = {}\nkey_file = {}\nshell_type = none\n",
            user.trim(),
            self.path("user").display()
        )
    }

    /// A mover of `role` for the volume `volume`, not started yet.
    pub(crate) fn mover(&self, role: &str, volume: &Path, variables: &[(&str, &str)]) -> Command {
        let mut command = Command::new(MOVER);
        let programs = rclone().parent().unwrap().display();
        command.args(["mover", "rclone", role]);
        let defaults = BTreeMap::from([
            ("PATH", format!("{programs}:/usr/bin:/bin")),
            (
                "RCLONE_CONFIG",
                self.path("config/rclone.conf").display().to_string(),
            ),
            ("RCLONE_CONFIG_SECTION", "store".to_owned()),
            ("RCLONE_DEST_PATH", self.path.clone()),
            ("SYNCLINE_DATA_DIR", volume.display().to_string()),
            ("TMPDIR", self.path("tmp").display().to_string()),
            ("SYNCLINE_WAIT_UNIT_MS", "10".to_owned()),
            ("OWNER_UID", "uid-1".to_owned()),
            ("OWNER_NAMESPACE", "space".to_owned()),
            ("OWNER_NAME", "source".to_owned()),
        ]);
        command.envs(defaults).envs(variables.iter().copied());
        command
    }

    /// A mover of `role` for `volume` that is no root, run to its end. All of the shop becomes that user's.
    pub(crate) fn ordinary(&self, role: &str, volume: &str, variables: &[(&str, &str)]) -> Ended {
        let mover = self.ordinary_mover(role, volume, variables);
        self.start_command(mover, "ordinary").end()
    }

    /// The same, not started yet.
    fn ordinary_mover(&self, role: &str, volume: &str, variables: &[(&str, &str)]) -> Command {
        let mover = self.mover(role, &self.path(volume), variables);
        if !is_root() {
            return mover;
        }
        let user = ORDINARY_UID.to_string();
        // What root has may lie where nobody else comes.
        let programs = self.path("programs");
        std::fs::create_dir_all(&programs).unwrap();
        std::fs::copy(rclone(), programs.join("rclone")).unwrap();
        run(Command::new("chown")
            .args(["-R", &format!("{user}:{user}")])
            .arg(self.path("")));
        let words = ["--reuid", &user, "--regid", &user, "--clear-groups", "--"];
        let mut command = behind("setpriv", &words, &mover);
        command.env("PATH", format!("{}:/usr/bin:/bin", programs.display()));
        command
    }

    /// A source of `src` that is no root, beside whose volume another one is mounted at `/mnt/store` that is root's, run to its
    /// end. Nobody else sees that. Needs root.
    pub(crate) fn ordinary_source_beside_roots_volume(&self) -> Ended {
        const SCRIPT: &str = "mount -t tmpfs none /mnt && mkdir /mnt/store && mount -t tmpfs -o mode=755 none /mnt/store && \
            exec \"$0\" \"$@\"";
        let mover = self.ordinary_mover("source", "src", &[]);
        let words = ["--mount", "sh", "-c", SCRIPT];
        let command = behind("unshare", &words, &mover);
        self.start_command(command, "beside").end()
    }

    pub(crate) fn start(&self, role: &str, volume: &str, variables: &[(&str, &str)]) -> Running {
        let command = self.mover(role, &self.path(volume), variables);
        self.start_command(command, &format!("{role}-{volume}"))
    }

    pub(crate) fn start_command(&self, command: Command, name: &str) -> Running {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let place = |suffix: &str| self.path(&format!("{name}-{number}.{suffix}"));
        Running::start(command, place("log"), place("report"))
    }

    /// A source of `src`, run to its end.
    pub(crate) fn source(&self, variables: &[(&str, &str)]) -> Ended {
        self.start("source", "src", variables).end()
    }

    /// A destination into `dst`, run to its end.
    pub(crate) fn destination(&self, variables: &[(&str, &str)]) -> Ended {
        self.start("destination", "dst", variables).end()
    }

    /// A destination whose volume, with the file `old` in it, is a file system of a megabyte that nobody else sees. Its log
    /// says whether the file is there in the end.
    pub(crate) fn destination_with_a_megabyte(&self) -> Ended {
        const SCRIPT: &str = "mount -t tmpfs -o size=1m none \"$0\" && touch \"$0/old\" && \"$@\"; code=$?; \
            if test -e \"$0/old\"; then echo old is there >&2; fi; exit $code";
        let mover = self.mover("destination", &self.dst(), &[]);
        let volume = self.dst().display().to_string();
        let mut words = vec!["--mount", "sh", "-c", SCRIPT, &volume];
        if !is_root() {
            words.insert(0, "--map-root-user");
        }
        let command = behind("unshare", &words, &mover);
        self.start_command(command, "small").end()
    }

    /// Stock rclone with the store's configuration.
    #[track_caller]
    pub(crate) fn stock(&self, words: &[&str]) -> String {
        let output = Command::new(rclone())
            .arg("--config")
            .arg(self.path("config/rclone.conf"))
            .args(words)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "rclone {words:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Names in the state folder of a local store.
    pub(crate) fn state_names(&self) -> Vec<String> {
        let Ok(listing) = std::fs::read_dir(self.state()) else {
            return Vec::new();
        };
        let mut names: Vec<String> = listing
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// The marker of a local store.
    pub(crate) fn marker(&self) -> serde_json::Value {
        let text = std::fs::read(self.state().join("generation.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }
}

/// `mover`, started by `program` with `words` before it.
fn behind(program: &str, words: &[&str], mover: &Command) -> Command {
    let variables = mover.get_envs();
    let mut command = Command::new(program);
    command
        .args(words)
        .arg(mover.get_program())
        .args(mover.get_args())
        .envs(variables.filter_map(|(name, value)| Some((name, value?))));
    command
}

fn crypt_config(store: &Path) -> String {
    let obscured = Command::new(rclone())
        .args(["obscure", "secret words"])
        .output()
        .unwrap();
    format!(
        "[base]\ntype = local\n\n[store]\ntype = crypt\nremote = base:{}\npassword = {}\n",
        store.display(),
        String::from_utf8(obscured.stdout).unwrap().trim()
    )
}

/// A copy of a folder with everything in it, in place of what is at `to`.
pub(crate) fn replace(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    run(Command::new("cp").arg("-a").arg(from).arg(to));
}
