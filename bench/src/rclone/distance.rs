//! A way to the store that takes time, as that to another machine does.

use std::net::SocketAddr;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

/// Most bytes that travel in one piece.
const PIECE: usize = 64 << 10;
/// Most pieces that are under way in one direction of a connection.
const UNDER_WAY: usize = 1024;

/// An address that leads to another one, and every byte takes its time.
#[derive(Debug)]
pub(super) struct Distance {
    pub(super) address: SocketAddr,
    close: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Distance {
    /// A way to `to` on which question and answer together take `round_trip`.
    pub(super) fn to(to: SocketAddr, round_trip: Duration) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (close, closed) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("distance".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        _ = listen(listener, to, round_trip) => {}
                        _ = closed => {}
                    }
                });
            })
            .context("no thread can be started")?;
        Ok(Self {
            address,
            close: Some(close),
            thread: Some(thread),
        })
    }
}

impl Drop for Distance {
    fn drop(&mut self) {
        drop(self.close.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn listen(
    listener: std::net::TcpListener,
    to: SocketAddr,
    round_trip: Duration,
) -> Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (client, _) = listener.accept().await?;
        tokio::spawn(async move { drop(lead(client, to, round_trip).await) });
    }
}

async fn lead(client: TcpStream, to: SocketAddr, round_trip: Duration) -> Result<()> {
    let server = TcpStream::connect(to).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let one_way = round_trip / 2;
    // Before its first byte a client has waited for the answer to its greeting.
    let greeted = Instant::now() + round_trip;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::try_join!(
        carry(from_client, to_server, one_way, greeted),
        carry(from_server, to_client, one_way, greeted)
    )?;
    Ok(())
}

/// Carries bytes on, each of which arrives `late` after it was sent, and none before `first`.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    late: Duration,
    first: Instant,
) -> Result<()> {
    let (give, mut take) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    let receive = async {
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            if from.read_buf(&mut piece).await? == 0 {
                drop(give);
                return anyhow::Ok(());
            }
            let due = Instant::now().max(first) + late;
            if give.send((due, piece)).await.is_err() {
                return Ok(());
            }
        }
    };
    let pass = async {
        while let Some((due, piece)) = take.recv().await {
            sleep_until(due).await;
            to.write_all(&piece).await?;
        }
        to.shutdown().await?;
        anyhow::Ok(())
    };
    tokio::try_join!(receive, pass)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn an_answer_takes_as_long_as_the_way_there_and_back() {
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let echo = thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            let mut text = [0; 5];
            while stream.read_exact(&mut text).is_ok() {
                stream.write_all(&text).unwrap();
            }
        });
        let way = Distance::to(address, Duration::from_millis(60)).unwrap();
        let mut client = std::net::TcpStream::connect(way.address).unwrap();
        let mut ask = || {
            let begin = std::time::Instant::now();
            client.write_all(b"hello").unwrap();
            let mut text = [0; 5];
            client.read_exact(&mut text).unwrap();
            assert_eq!(&text, b"hello");
            begin.elapsed()
        };
        assert!(ask() >= Duration::from_millis(119), "greeting and question");
        let second = ask();
        assert!(second >= Duration::from_millis(59), "{second:?}");
        drop(client);
        echo.join().unwrap();
    }
}
