//! What the protocols' files say, as Rust; see `proto/README.md` for where they come from.

/// The container storage interface.
#[expect(
    unreachable_pub,
    clippy::excessive_nesting,
    clippy::pedantic,
    reason = "generated from csi.proto"
)]
pub(crate) mod csi {
    tonic::include_proto!("csi.v1");
}

/// How a plugin makes itself known to the kubelet.
#[expect(
    unreachable_pub,
    clippy::excessive_nesting,
    clippy::pedantic,
    reason = "generated from api.proto"
)]
pub(crate) mod registration {
    tonic::include_proto!("pluginregistration");
}
