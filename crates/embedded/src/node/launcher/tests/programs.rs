//! Programs that pods are given beside the host's own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::{Bench, output, runners};

#[tokio::test]
async fn a_folder_of_programs_is_there_for_pods_and_cannot_be_changed() {
    for runner in runners() {
        let mut bench = Bench::new(
            runner,
            "/opt/programs/greet; echo x 2>/dev/null >/opt/programs/greet || echo read-only; ls /opt",
        );
        let programs = bench.folder("given");
        let program = programs.join("greet");
        fs::write(&program, "#!/bin/sh\necho hello\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        bench.spec.programs = Some(programs);
        let seen = output(&bench).await;
        assert_eq!(seen, "hello\nread-only\nprograms\n", "{runner:?}");
    }
}
