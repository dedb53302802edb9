//! What clients connect to: a thread of this process that listens, and hands on what comes.

use std::ffi::OsString;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use super::fault::Faults;
use super::http;
use super::place::Spot;

/// How a server behind a door is reached.
#[derive(Clone, Debug)]
pub(super) enum Way {
    /// It speaks HTTP on this socket.
    Socket(PathBuf),
    /// It speaks HTTP at this address.
    Address(SocketAddr),
    /// It is started anew for each connection, which it has for its standard input and output; bytes are handed on as they come.
    Program(Vec<OsString>),
}

/// An open door.
pub(super) struct Door {
    address: SocketAddr,
    close: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Door {
    /// Listens at this place, for this server; HTTP is spoken over TLS with such a configuration.
    pub(super) fn open(
        spot: &Spot,
        way: Way,
        tls: Option<Arc<rustls::ServerConfig>>,
        faults: Arc<Faults>,
    ) -> Result<Self> {
        let listener = spot.listen().context("cannot listen for clients")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (close, closed) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let house = Arc::new(House {
            tls: tls.map(TlsAcceptor::from),
            way,
            faults,
        });
        let thread = thread::Builder::new()
            .name("store's door".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        _ = listen(listener, house) => {}
                        _ = closed => {}
                    }
                });
                // All connections end here, with the runtime that has their tasks.
            })?;
        Ok(Self {
            address,
            close: Some(close),
            thread: Some(thread),
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        drop(self.close.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What a connection needs.
struct House {
    tls: Option<TlsAcceptor>,
    way: Way,
    faults: Arc<Faults>,
}

async fn listen(listener: TcpListener, house: Arc<House>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        if house.faults.turns_away() {
            continue;
        }
        stream.set_nodelay(true)?;
        let house = Arc::clone(&house);
        // What goes wrong with a connection is for its client to see.
        tokio::spawn(async move { drop(house.receive(stream).await) });
    }
}

impl House {
    async fn receive(&self, stream: TcpStream) -> io::Result<()> {
        match (&self.way, &self.tls) {
            (Way::Program(line), _) => tunnel(stream, line).await,
            (_, Some(tls)) => self.serve(tls.accept(stream).await?).await,
            (_, None) => self.serve(stream).await,
        }
    }

    async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        let service = service_fn(|request| http::answer(request, &self.way, &self.faults));
        hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await
            .map_err(io::Error::other)
    }
}

/// The program's end of a pair of sockets lives in the program only: when the client goes, or the door closes, it reads
/// the end of its input.
async fn tunnel(mut client: TcpStream, line: &[OsString]) -> io::Result<()> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let mut ours = UnixStream::from_std(ours)?;
    let Some((program, arguments)) = line.split_first() else {
        return Ok(());
    };
    let input = OwnedFd::from(theirs.try_clone()?);
    let mut command = tokio::process::Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::from(input))
        .stdout(Stdio::from(OwnedFd::from(theirs)))
        .stderr(Stdio::null());
    let mut child = command.spawn()?;
    // It holds the other end, too, until it is gone.
    drop(command);
    let copied = copy_bidirectional(&mut client, &mut ours).await;
    drop(ours);
    child.wait().await?;
    copied.map(drop)
}
