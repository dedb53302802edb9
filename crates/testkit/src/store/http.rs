//! One HTTP request at the door: counted, struck by a fault or handed on as it came.

use std::io;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use futures::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderValue, TRANSFER_ENCODING,
};
use hyper::{Request, Response, Uri, Version};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::door::Way;
use super::fault::{Deed, Faults, Refusal};
use super::listing::shortened;
use super::request;

pub(super) type Body = BoxBody<Bytes, io::Error>;
type Answer = Result<Response<Body>, io::Error>;

/// Answers a request; an error closes the connection without a word.
pub(super) async fn answer(request: Request<Incoming>, server: &Way, faults: &Faults) -> Answer {
    let seen = request::Request::new(request.method(), request.uri(), request.headers());
    // Asked first: faults may end between the two.
    let mut cleared = faults.until_cleared();
    match faults.meet(&seen) {
        None => hand_on(request, server).await,
        Some(Deed::Hold) => {
            let _ = cleared.changed().await;
            hand_on(request, server).await
        }
        Some(Deed::Refuse(refusal)) => {
            // A store that answers earlier and closes would be seen as one that broke off.
            let _ = request.into_body().collect().await;
            Ok(refused(refusal))
        }
        Some(Deed::Shorten(keep)) => {
            let (mut head, body) = whole(hand_on(request, server).await?).await?;
            let text = shortened(&String::from_utf8_lossy(&body), keep);
            head.headers
                .insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
            Ok(Response::from_parts(head, full(text)))
        }
        Some(Deed::Cut) => cut(request, server).await,
        Some(Deed::Unreachable) => Err(closed()),
    }
}

/// Reads half of what is uploaded and closes; where nothing is uploaded, half of the answer goes out.
async fn cut(request: Request<Incoming>, server: &Way) -> Answer {
    let size = request.body().size_hint().lower();
    if size > 0 {
        let mut body = request.into_body();
        let mut read = 0;
        while read < size.div_ceil(2) {
            let Some(frame) = body.frame().await else {
                break;
            };
            let data = frame.map_err(io::Error::other)?;
            let length = data.data_ref().map_or(0, Bytes::len);
            read += u64::try_from(length).unwrap_or(u64::MAX);
        }
        return Err(closed());
    }
    let (mut head, body) = whole(hand_on(request, server).await?).await?;
    head.headers
        .insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    let half = body.slice(..body.len() / 2);
    let frames = stream::iter([Ok(Frame::data(half)), Err(closed())]);
    Ok(Response::from_parts(head, StreamBody::new(frames).boxed()))
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "a fault of the test")
}

/// An error as S3 words it.
fn refused(refusal: Refusal) -> Response<Body> {
    let (status, code, message) = refusal.words();
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>\
         <RequestId>TESTFAULT</RequestId></Error>"
    );
    let mut response = Response::new(full(text));
    *response.status_mut() = status;
    let xml = HeaderValue::from_static("application/xml");
    response.headers_mut().insert(CONTENT_TYPE, xml);
    response
}

fn full(content: impl Into<Bytes>) -> Body {
    Full::new(content.into())
        .map_err(|never| match never {})
        .boxed()
}

async fn whole(
    response: Response<Body>,
) -> Result<(hyper::http::response::Parts, Bytes), io::Error> {
    let (head, mut body) = response.into_parts();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            all.extend_from_slice(&data);
        }
    }
    Ok((head, all.freeze()))
}

/// Asks the server behind the door, over a connection of its own. What is signed (host, path, query, headers) stays.
async fn hand_on(request: Request<Incoming>, server: &Way) -> Answer {
    match server {
        Way::Socket(socket) => ask(connected(socket).await?, request).await,
        Way::Address(address) => ask(TcpStream::connect(address).await?, request).await,
        Way::Program(_) => Err(io::Error::other(
            "a program for each connection speaks no HTTP",
        )),
    }
}

/// A connection to this socket, as soon as there is room: all tests of a process share the server, and more of them than its
/// queue holds would see a store that breaks off.
async fn connected(socket: &Path) -> io::Result<UnixStream> {
    match UnixStream::connect(socket).await {
        Err(full) if full.kind() == io::ErrorKind::WouldBlock => {
            let socket = socket.to_owned();
            let patient = move || std::os::unix::net::UnixStream::connect(socket);
            let stream = tokio::task::spawn_blocking(patient).await??;
            stream.set_nonblocking(true)?;
            UnixStream::from_std(stream)
        }
        connected => connected,
    }
}

async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    mut request: Request<Incoming>,
) -> Answer {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    // Its errors come with the answer.
    tokio::spawn(async move { drop(connection.await) });
    let headers = request.headers_mut();
    headers.remove(CONNECTION);
    // The client is told to go on as soon as its upload is read here.
    headers.remove(EXPECT);
    without_tls(&mut request);
    // Who takes the door for a proxy names the whole address.
    if let Some(path) = request.uri().path_and_query() {
        *request.uri_mut() = Uri::from(path.clone());
    }
    let response = sender
        .send_request(request)
        .await
        .map_err(io::Error::other)?;
    let (mut parts, body) = response.into_parts();
    parts.version = Version::HTTP_11;
    parts.headers.remove(CONNECTION);
    parts.headers.remove(TRANSFER_ENCODING);
    Ok(Response::from_parts(
        parts,
        body.map_err(io::Error::other).boxed(),
    ))
}

/// The server behind the door knows no TLS, and refuses to move something to another scheme.
fn without_tls(request: &mut Request<Incoming>) {
    let headers = request.headers_mut();
    let plain = headers
        .get("destination")
        .and_then(|to| to.to_str().ok()?.strip_prefix("https"))
        .and_then(|rest| HeaderValue::from_str(&format!("http{rest}")).ok());
    if let Some(plain) = plain {
        headers.insert("destination", plain);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn a_connection_waits_for_room_in_the_queue_of_its_server() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let server = UnixListener::bind(&socket).unwrap();
        rustix::net::listen(&server, 0).unwrap();
        let first = connected(&socket).await.unwrap();
        let full = UnixStream::connect(&socket).await.unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);

        let second = tokio::spawn(async move { connected(&socket).await });
        let accepted = tokio::task::spawn_blocking(move || [server.accept(), server.accept()]);
        assert!(accepted.await.unwrap().iter().all(Result::is_ok));
        assert!(second.await.unwrap().is_ok());
        drop(first);
    }
}
