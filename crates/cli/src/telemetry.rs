//! What the program logs about its own work, on standard error.

use tracing_subscriber::EnvFilter;

use crate::settings::Environment;

/// Starts logging: `SYNCLINE_LOG` decides, else the number of `-v` and whether this is a server.
pub(crate) fn start(verbose: u8, server: bool, environment: &Environment) {
    let default = match (server, verbose) {
        (false, 0) => "off",
        (true, 0) => "warn,syncline=info",
        (_, 1) => "info",
        (_, 2) => "debug,hyper=info,rustls=info,h2=info,tower=info,kube=info",
        _ => "trace",
    };
    let filter = environment
        .log
        .as_deref()
        .and_then(|text| EnvFilter::try_new(text).ok())
        .unwrap_or_else(|| EnvFilter::new(default));
    // A second subscriber can only come from a test that has one already.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(anstream::stderr)
        .with_target(verbose > 1)
        .try_init();
}
