//! The syncline command: argument parsing and printing only.

fn main() {}
