//! What the program logs about its own work, on standard error.

use tracing_subscriber::EnvFilter;

use crate::args::Command;
use crate::commands::operator::Zap;
use crate::settings::Environment;

/// Starts logging: `SYNCLINE_LOG` decides, else what VolSync's flags say, else the number of `-v` and whether this is a
/// server.
pub(crate) fn start(verbose: u8, command: &Command, environment: &Environment) {
    let zap = command.zap();
    let default =
        zap.and_then(Zap::filter)
            .unwrap_or_else(|| match (command.is_server(), verbose) {
                (false, 0) => "off",
                (true, 0) => "warn,syncline=info",
                (_, 1) => "info",
                (_, 2) => "debug,hyper=info,rustls=info,h2=info,tower=info,kube=info",
                _ => "trace",
            });
    let filter = environment
        .log
        .as_deref()
        .and_then(|text| EnvFilter::try_new(text).ok())
        .unwrap_or_else(|| EnvFilter::new(default));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(anstream::stderr)
        .with_target(verbose > 1);
    // A second subscriber can only come from a test that has one already.
    let _ = if zap.is_some_and(Zap::json) {
        lines.json().flatten_event(true).try_init()
    } else {
        lines.try_init()
    };
}
