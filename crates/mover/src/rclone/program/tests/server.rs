//! A server that says the same to every request, in S3's words.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a server says to every request.
#[derive(Clone, Copy)]
pub(super) enum Answer {
    /// A status and S3's name for the error.
    Error(u16, &'static str),
    /// A listing with one object of 7 bytes, which may not be looked at, and is read with this status and no content.
    Unreadable(u16),
    /// A listing with one object of 7 bytes; questions for an object get this status.
    Wordless(u16),
    /// A listing with one object of this name, written as it is.
    Listed(&'static str),
    /// The connection is closed.
    Cut,
    /// Nothing at all.
    Silence,
}

/// A server for one test. It notes what it was asked.
pub(super) struct Server {
    address: SocketAddr,
    pub(super) requests: Arc<Mutex<Vec<String>>>,
}

const LISTING: &str = "<?xml version=\"1.0\"?><ListBucketResult><Name>bucket</Name><IsTruncated>false</IsTruncated>\
    <Contents><Key>db-syncline/generation.json</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
    <ETag>\"d41d8cd98f00b204e9800998ecf8427e\"</ETag><Size>7</Size></Contents></ListBucketResult>";

impl Server {
    pub(super) fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            requests: Arc::default(),
        };
        let requests = Arc::clone(&server.requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let requests = Arc::clone(&requests);
                std::thread::spawn(move || serve(&stream, answer, &requests));
            }
        });
        server
    }

    /// A section of `rclone.conf` for it, with canaries for secrets.
    pub(super) fn conf(&self) -> String {
        format!(
            "[x]\ntype = s3\nprovider = Other\nendpoint = http://{}\naccess_key_id = CANARY-ID\n\
             secret_access_key = CANARY-KEY\nsession_token = CANARY-TOKEN\n",
            self.address
        )
    }

    /// Waits for the first request.
    pub(super) async fn asked(&self) {
        let asked = async {
            while self.requests.lock().unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), asked)
            .await
            .expect("rclone asks the server");
    }
}

fn serve(stream: &TcpStream, answer: Answer, requests: &Mutex<Vec<String>>) {
    let mut writer = stream;
    let mut reader = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    if reader.read_line(&mut first).unwrap_or_default() == 0 {
        return;
    }
    let mut line = String::new();
    while reader.read_line(&mut line).unwrap_or_default() > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    let _ = reader.read_exact(&mut body);
    requests.lock().unwrap().push(first.clone());
    let is_head = first.starts_with("HEAD");
    let (status, body) = match answer {
        Answer::Cut => return,
        Answer::Silence => {
            let _ = reader.read_line(&mut line);
            return;
        }
        Answer::Unreadable(_) if is_head => (403, String::new()),
        Answer::Wordless(status) if is_head => (status, String::new()),
        Answer::Unreadable(_) | Answer::Wordless(_) if first.contains("generation.json%2F") => {
            let empty = LISTING.find("<Contents>").unwrap();
            (200, format!("{}</ListBucketResult>", &LISTING[..empty]))
        }
        Answer::Unreadable(status) if first.contains("x-id=GetObject") => (status, String::new()),
        Answer::Unreadable(_) | Answer::Wordless(_) => (200, LISTING.to_owned()),
        Answer::Listed(_) if is_head => (404, String::new()),
        Answer::Listed(name) => (200, LISTING.replace("db-syncline/generation.json", name)),
        Answer::Error(status, code) => (
            status,
            format!(
                "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>CANARY-TOKEN said so</Message></Error>"
            ),
        ),
    };
    let body = if is_head { String::new() } else { body };
    let mut all = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    all.push_str(&body);
    // A client that went away asked for nothing more.
    let _ = writer.write_all(all.as_bytes());
    // The client hangs up: where this end did at once, it had now and then not read all, and told of a connection that broke.
    let _ = writer.shutdown(Shutdown::Write);
    let _ = reader.read_to_end(&mut Vec::new());
}
