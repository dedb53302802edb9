//! A session that receives a block device, in this very process.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use rustix::process::Signal;

use super::session::{self, GateError};
use super::talk::Request;
use crate::console::complain;
use crate::rsync::block::{Device, receive};

/// Receives into the destination's device under the supervision that `folder` belongs to.
pub(super) fn transfer(folder: &Path) -> Result<ExitCode, GateError> {
    let settings = session::settings(folder)?;
    let path = settings
        .block
        .as_deref()
        .ok_or(super::Refusal::FileSystem)?;
    let (mut supervisor, answers) = session::begin(folder, true)?;
    let device =
        Device::open_to_write(path).map_err(|error| GateError::Settings(error.to_string()))?;
    session::confine().map_err(GateError::Confine)?;
    session::end_with_supervisor(answers, || {
        // Nothing of a block transfer outlives this process.
        let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::TERM);
    });
    // Without the standard library's buffers, which look for lines.
    let (input, output) = (raw(std::io::stdin())?, raw(std::io::stdout())?);
    let outcome = receive(device, input, output);
    let code = match &outcome {
        Ok(received) => {
            let text = format!(
                "{} bytes received, {} of them written and read back",
                received.size, received.written
            );
            session::send(&mut supervisor, &Request::Noted(text))?;
            if received.rest > 0 {
                let text = format!(
                    "the device is larger than the source's; its last {} bytes are left as they are",
                    received.rest
                );
                session::send(&mut supervisor, &Request::Noted(text))?;
            }
            0
        }
        Err(error) => {
            complain(&error.to_string());
            let text = crate::console::printable(error.to_string().as_bytes());
            session::send(&mut supervisor, &Request::Noted(text))?;
            1
        }
    };
    session::send(&mut supervisor, &Request::End(code))?;
    Ok(ExitCode::from(u8::from(code != 0)))
}

fn raw(stream: impl AsFd) -> Result<File, GateError> {
    let copy = stream.as_fd().try_clone_to_owned();
    copy.map(File::from).map_err(GateError::Supervisor)
}
