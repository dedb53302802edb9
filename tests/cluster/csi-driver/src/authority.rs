//! Requests of the kubelet, made acceptable: Go's gRPC puts the socket's path into `:authority`, and the `http` crate
//! refuses a path there (RFC 9110 §4.2.3 knows none), so that h2 ends the stream with `PROTOCOL_ERROR`.
//!
//! Each connection passes through here on its way to the server: the header block of every request is read, its
//! authority replaced, and written anew. Everything else is handed on as it comes.

use std::io;

use hpack::{Decoder, Encoder};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, copy, duplex, split};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;

/// How much may be on its way between the two sides.
const BUFFER: usize = 64 << 10;
/// The bytes that every connection begins with (RFC 9113 §3.4).
const PREFACE: usize = 24;
/// The length of a frame's head (RFC 9113 §4.1).
const HEAD: usize = 9;
/// The longest frame that a peer must take (RFC 9113 §4.2).
const LONGEST: usize = 1 << 14;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// What stands before the block when a frame has a priority.
const PRIORITY_LENGTH: usize = 5;

/// The same connection, with authorities that the server accepts.
pub(crate) fn mended(stream: UnixStream) -> DuplexStream {
    let (near, far) = duplex(BUFFER);
    tokio::spawn(async move {
        let (from_client, mut to_client) = stream.into_split();
        let (mut from_server, to_server) = split(far);
        let inward = async {
            let mut requests = Requests {
                from: from_client,
                to: to_server,
                decoder: Decoder::new(),
                encoder: Encoder::new(),
            };
            // Its end, however it comes, is the end of the connection.
            let _ = requests.forward().await;
            let _ = requests.to.shutdown().await;
        };
        let outward = async {
            let _ = copy(&mut from_server, &mut to_client).await;
            let _ = to_client.shutdown().await;
        };
        tokio::join!(inward, outward);
    });
    near
}

/// The way of a connection's requests.
struct Requests {
    from: OwnedReadHalf,
    to: tokio::io::WriteHalf<DuplexStream>,
    decoder: Decoder<'static>,
    encoder: Encoder<'static>,
}

/// A frame of HTTP/2.
struct Frame {
    kind: u8,
    flags: u8,
    stream: [u8; 4],
    payload: Vec<u8>,
}

impl Requests {
    async fn forward(&mut self) -> io::Result<()> {
        let mut preface = [0; PREFACE];
        self.from.read_exact(&mut preface).await?;
        self.to.write_all(&preface).await?;
        loop {
            let frame = self.read().await?;
            let frame = match frame.kind {
                HEADERS => self.mend(frame).await?,
                _ => frame,
            };
            self.write(&frame).await?;
        }
    }

    async fn read(&mut self) -> io::Result<Frame> {
        let mut head = [0; HEAD];
        self.from.read_exact(&mut head).await?;
        let [high, middle, low, kind, flags, stream @ ..] = head;
        let length = u32::from_be_bytes([0, high, middle, low]);
        let mut payload = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        self.from.read_exact(&mut payload).await?;
        Ok(Frame {
            kind,
            flags,
            stream,
            payload,
        })
    }

    async fn write(&mut self, frame: &Frame) -> io::Result<()> {
        let length = u32::try_from(frame.payload.len()).map_err(io::Error::other)?;
        let [_, high, middle, low] = length.to_be_bytes();
        let [s0, s1, s2, s3] = frame.stream;
        let head: [u8; HEAD] = [high, middle, low, frame.kind, frame.flags, s0, s1, s2, s3];
        self.to.write_all(&head).await?;
        self.to.write_all(&frame.payload).await?;
        self.to.flush().await
    }

    /// One frame for the whole header block, with another authority.
    async fn mend(&mut self, frame: Frame) -> io::Result<Frame> {
        let mut block = bare(&frame)?.to_vec();
        let mut flags = frame.flags;
        while flags & END_HEADERS == 0 {
            let more = self.read().await?;
            if more.kind != CONTINUATION {
                return Err(io::Error::other("a header block is cut off"));
            }
            block.extend(more.payload);
            flags |= more.flags & END_HEADERS;
        }
        let fields = self
            .decoder
            .decode(&block)
            .map_err(|fault| io::Error::other(format!("{fault:?}")))?;
        let fields = fields.iter().map(|(name, value)| match name.as_slice() {
            b":authority" => (name.as_slice(), b"localhost".as_slice()),
            _ => (name.as_slice(), value.as_slice()),
        });
        let payload = self.encoder.encode(fields);
        if payload.len() > LONGEST {
            return Err(io::Error::other("a header block is too long"));
        }
        Ok(Frame {
            flags: flags & !(PADDED | PRIORITY),
            payload,
            ..frame
        })
    }
}

/// The header block of a frame without padding and priority.
fn bare(frame: &Frame) -> io::Result<&[u8]> {
    let mut block = frame.payload.as_slice();
    let cut = || io::Error::other("a frame is shorter than it says");
    if frame.flags & PADDED != 0 {
        let (padding, rest) = block.split_first().ok_or_else(cut)?;
        let kept = rest
            .len()
            .checked_sub(usize::from(*padding))
            .ok_or_else(cut)?;
        block = rest.get(..kept).ok_or_else(cut)?;
    }
    if frame.flags & PRIORITY != 0 {
        block = block.get(PRIORITY_LENGTH..).ok_or_else(cut)?;
    }
    Ok(block)
}
