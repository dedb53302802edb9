//! One listening address and the connections through it.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::SignedDuration;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::clock::Clock;

/// After a connection could not be taken: the next try would end the same way at once.
const REST: SignedDuration = SignedDuration::from_millis(200);

/// Listens until it is dropped. Connections that are open then go on to their end, or to the stop of the cluster.
pub(super) struct Forwarder {
    targets: Arc<Mutex<Vec<SocketAddr>>>,
    _listening: DropGuard,
}

impl Forwarder {
    /// Listens at `at` and forwards to `targets` in turn.
    pub(super) async fn start(
        at: SocketAddr,
        targets: Vec<SocketAddr>,
        clock: Arc<dyn Clock>,
        stop: &CancellationToken,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(at).await?;
        let targets = Arc::new(Mutex::new(targets));
        let end = stop.child_token();
        tokio::spawn(accept(
            listener,
            Arc::clone(&targets),
            clock,
            end.clone(),
            stop.clone(),
        ));
        Ok(Self {
            targets,
            _listening: end.drop_guard(),
        })
    }

    /// New connections go to these.
    pub(super) fn set_targets(&self, targets: Vec<SocketAddr>) {
        *self.targets.lock().unwrap_or_else(PoisonError::into_inner) = targets;
    }
}

async fn accept(
    listener: TcpListener,
    targets: Arc<Mutex<Vec<SocketAddr>>>,
    clock: Arc<dyn Clock>,
    end: CancellationToken,
    stop: CancellationToken,
) {
    let turn = AtomicUsize::new(0);
    loop {
        let accepted = tokio::select! {
            () = end.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let client = match accepted {
            Ok((client, _)) => client,
            Err(error) => {
                // Out of descriptors, or the client gave up: the others are served all the same.
                tracing::warn!(%error, "a connection to a Service could not be taken");
                clock.sleep_until(clock.now() + REST).await;
                continue;
            }
        };
        let mut order = targets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if !order.is_empty() {
            let first = turn.fetch_add(1, Ordering::Relaxed) % order.len();
            order.rotate_left(first);
        }
        let stop = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = carry(client, order) => {}
            }
        });
    }
}

/// Carries bytes both ways; the end of either direction is passed on by itself. A client whose Service has no pod that
/// answers is cut off.
async fn carry(mut client: TcpStream, targets: Vec<SocketAddr>) {
    for target in targets {
        match TcpStream::connect(target).await {
            Ok(mut pod) => {
                let _ = (client.set_nodelay(true), pod.set_nodelay(true));
                if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut pod).await {
                    tracing::debug!(%error, %target, "a forwarded connection broke");
                }
                return;
            }
            Err(error) => tracing::debug!(%error, %target, "a pod of a Service does not answer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::clock::SystemClock;

    #[tokio::test]
    async fn each_direction_ends_by_itself() {
        let pod = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = pod.local_addr().unwrap();
        let spare = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = spare.local_addr().unwrap();
        drop(spare);
        let stop = CancellationToken::new();
        let forwarder = Forwarder::start(at, vec![target], Arc::new(SystemClock), &stop)
            .await
            .unwrap();
        let serve = tokio::spawn(async move {
            let (mut stream, _) = pod.accept().await.unwrap();
            let mut asked = Vec::new();
            stream.read_to_end(&mut asked).await.unwrap();
            stream.write_all(b"answer to ").await.unwrap();
            stream.write_all(&asked).await.unwrap();
        });
        let mut client = TcpStream::connect(at).await.unwrap();
        client.write_all(b"a question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        serve.await.unwrap();
        assert_eq!(answer, "answer to a question");
        drop(forwarder);
    }

    #[tokio::test]
    async fn a_pod_that_does_not_answer_is_passed_over() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dead = gone.local_addr().unwrap();
        drop(gone);
        let pod = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let spare = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = spare.local_addr().unwrap();
        drop(spare);
        let targets = vec![dead, pod.local_addr().unwrap()];
        let _forwarder = Forwarder::start(
            at,
            targets,
            Arc::new(SystemClock),
            &CancellationToken::new(),
        )
        .await
        .unwrap();
        let (client, served) = tokio::join!(TcpStream::connect(at), pod.accept());
        client.unwrap();
        served.unwrap();
    }
}
