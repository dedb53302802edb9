//! Rust types and services from the two vendored protocols, without a protoc program.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    for (file, folder) in [
        ("csi.proto", "proto/csi"),
        ("api.proto", "proto/pluginregistration"),
    ] {
        println!("cargo::rerun-if-changed={folder}/{file}");
        let mut descriptors = protox::compile([file], [folder])?;
        // Their comments are no Markdown.
        for file in &mut descriptors.file {
            file.source_code_info = None;
        }
        tonic_prost_build::configure()
            // Calls that we do not offer are answered `UNIMPLEMENTED`.
            .generate_default_stubs(true)
            .compile_fds(descriptors)?;
    }
    Ok(())
}
