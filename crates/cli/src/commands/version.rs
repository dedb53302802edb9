//! `syncline version`.

use crate::failure::Failure;
use crate::printer::Printer;

pub(crate) fn run(printer: &mut Printer) -> Result<(), Failure> {
    Ok(printer.line(&format!("syncline {}", env!("CARGO_PKG_VERSION")))?)
}
