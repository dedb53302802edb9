//! The movers as a program of their own: `syncline-mover rsync source|destination|gate`.
//!
//! `syncline mover …` is the same thing inside the one binary that images ship; this one serves the crate's own tests
//! and whoever wants a mover without the rest.

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some(code) = syncline_mover::rsync::login_shell(&words) {
        return code;
    }
    // `mover` is accepted and dropped, so that both programs are called with the same words.
    let words = match words.split_first() {
        Some((first, rest)) if first == "mover" => rest.to_vec(),
        _ => words,
    };
    match words.split_first() {
        Some((kind, rest)) => syncline_mover::main(kind, rest),
        None => syncline_mover::main("", &[]),
    }
}
