//! VolSync's flags for its log, which are those of the library zap, mapped to ours.

use clap::{Args, builder::BoolishValueParser};

/// What to log, and how.
#[derive(Args, Debug)]
#[command(next_help_heading = "Logging")]
#[expect(
    clippy::struct_field_names,
    reason = "the names are those of the flags"
)]
pub(crate) struct Zap {
    /// What to log: debug, info, error, panic, or a number above 0 for more and more
    #[arg(long, value_name = "LEVEL", value_parser = level)]
    zap_log_level: Option<Level>,
    /// How: json, or console for people
    #[arg(long, value_name = "ENCODER", value_parser = ["json", "console"])]
    zap_encoder: Option<String>,
    /// Log for developers: debug, for people
    #[arg(long, value_name = "BOOL", value_parser = BoolishValueParser::new(), num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    zap_devel: bool,
    /// Accepted and without effect: no stack traces are logged
    #[arg(long, value_name = "LEVEL")]
    zap_stacktrace_level: Option<String>,
    /// Accepted and without effect: times are logged by RFC 3339
    #[arg(long, value_name = "ENCODING")]
    zap_time_encoding: Option<String>,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Error,
    Info,
    Debug,
    Trace,
}

fn level(text: &str) -> Result<Level, String> {
    match (text, text.parse::<u32>()) {
        ("error" | "panic", _) => Ok(Level::Error),
        ("info", _) | (_, Ok(0)) => Ok(Level::Info),
        ("debug", _) | (_, Ok(1)) => Ok(Level::Debug),
        (_, Ok(_)) => Ok(Level::Trace),
        _ => Err("it is debug, info, error, panic or a number".to_owned()),
    }
}

impl Zap {
    /// What to log in the form of `RUST_LOG`, if the flags say so.
    pub(crate) fn filter(&self) -> Option<&'static str> {
        let level = self
            .zap_log_level
            .or_else(|| self.zap_devel.then_some(Level::Debug))?;
        Some(match level {
            Level::Error => "error",
            Level::Info => "warn,syncline=info",
            Level::Debug => "debug,hyper=info,rustls=info,h2=info,tower=info,kube=info",
            Level::Trace => "trace",
        })
    }

    /// Whether each line is a JSON object.
    pub(crate) fn json(&self) -> bool {
        self.zap_encoder.as_deref() == Some("json")
    }

    /// The flags that were given and change nothing.
    pub(super) fn idle(&self) -> Vec<&'static str> {
        let given = [
            (
                self.zap_stacktrace_level.is_some(),
                "--zap-stacktrace-level",
            ),
            (self.zap_time_encoding.is_some(), "--zap-time-encoding"),
        ];
        given
            .into_iter()
            .filter_map(|(given, flag)| given.then_some(flag))
            .collect()
    }
}
