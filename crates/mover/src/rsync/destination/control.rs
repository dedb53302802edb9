//! The supervisor's end of the gates' socket: each connection becomes events.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::report::{Fault, reason};
use crate::rsync::gate::talk::{Answer, Request, SOCKET};

/// After a connection could not be taken: the next try would end the same way at once.
const REST: Duration = Duration::from_millis(200);

/// The longest line that a gate sends.
const LONGEST_LINE: u64 = 16 * 1024;

/// What happened on one connection.
#[derive(Debug)]
pub(super) enum Event {
    /// A gate asked, and waits for the answer.
    Asked {
        connection: u64,
        request: Request,
        answer: oneshot::Sender<Answer>,
    },
    /// A gate told something.
    Told { connection: u64, request: Request },
    /// Nobody holds the connection any more.
    Gone { connection: u64 },
}

/// Listens in `folder` and sends what comes to `events`, until `stop`.
pub(super) fn listen(
    folder: &Path,
    events: mpsc::Sender<Event>,
    stop: CancellationToken,
) -> Result<(), Fault> {
    let path = folder.join(SOCKET);
    let listener = UnixListener::bind(&path).map_err(|error| {
        Fault::new(
            reason::POD_INCOMPLETE,
            format!("no socket can be made at {}: {error}", path.display()),
        )
    })?;
    tokio::spawn(async move {
        let mut connection = 0;
        while !stop.is_cancelled() {
            match listener.accept().await {
                Ok((stream, _)) => {
                    connection += 1;
                    tokio::spawn(converse(stream, connection, events.clone(), stop.clone()));
                }
                // Out of descriptors while a peer opens session after session. A destination that stopped listening
                // would never hear of its source's end.
                Err(_) => tokio::time::sleep(REST).await,
            }
        }
    });
    Ok(())
}

async fn converse(
    stream: UnixStream,
    connection: u64,
    events: mpsc::Sender<Event>,
    stop: CancellationToken,
) {
    tokio::select! {
        () = hear(stream, connection, &events) => {}
        // Closing the stream is the signal: the gate ends its transfer then.
        () = stop.cancelled() => {}
    }
    // The receiver is gone only when the destination ends.
    let _ = events.send(Event::Gone { connection }).await;
}

async fn hear(stream: UnixStream, connection: u64, events: &mpsc::Sender<Event>) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = String::new();
        match (&mut reader).take(LONGEST_LINE).read_line(&mut line).await {
            Ok(1..) => {}
            _ => return,
        }
        let Some(request) = Request::parse(line.trim_end()) else {
            return;
        };
        let needs_answer = matches!(request, Request::Begin { .. } | Request::Shutdown(_));
        if !needs_answer {
            if events
                .send(Event::Told {
                    connection,
                    request,
                })
                .await
                .is_err()
            {
                return;
            }
            continue;
        }
        let (answer, answered) = oneshot::channel();
        if events
            .send(Event::Asked {
                connection,
                request,
                answer,
            })
            .await
            .is_err()
        {
            return;
        }
        let Ok(answer) = answered.await else { return };
        if writer.write_all(answer.to_line().as_bytes()).await.is_err() {
            return;
        }
    }
}
