//! Requests as raw bytes, including those that no HTTP client would send.

use std::{net::SocketAddr, time::Duration};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use vaultsync_testkit::Answer;

/// Timeout of an exchange, longer than every deadline of the servers under test.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(30);

/// Sends `bytes`, and reads all responses until the server closes the connection. If the last request
/// is valid, it must ask the server to close.
pub(crate) async fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<Answer> {
    let stream = TcpStream::connect(address).await.expect("a connection");
    let (mut reader, mut writer) = stream.into_split();
    let mut text = Vec::new();
    let reading = async {
        let mut buffer = [0; 4096];
        // A server that closes before it has read the whole request may reset the connection. The
        // responses that arrived before the reset count.
        while let Ok(count @ 1..) = reader.read(&mut buffer).await {
            text.extend_from_slice(&buffer[..count]);
        }
    };
    let writing = async {
        // The server may respond and close before it has read everything.
        let _ = writer.write_all(bytes).await;
    };
    let both = async { tokio::join!(reading, writing) };
    timeout(EXCHANGE_TIMEOUT, both).await.expect("the server closes the connection");
    split(&text)
}

/// A GET of that path that closes its connection.
pub(crate) fn get(path: &str, token: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
         Connection: close\r\n\r\n"
    )
}

/// A push whose body is sent in chunks of that size.
pub(crate) fn chunked_push(token: &str, body: &[u8], chunk_bytes: usize) -> Vec<u8> {
    let head = format!(
        "POST /api/sync/push HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
         Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    );
    let mut request = head.into_bytes();
    for chunk in body.chunks(chunk_bytes) {
        request.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        request.extend_from_slice(chunk);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\n\r\n");
    request
}

/// Splits the received bytes into responses. Fails the test if they are anything else.
fn split(mut bytes: &[u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        let shown = bytes.escape_ascii().to_string();
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no head: {shown}"));
        let head = std::str::from_utf8(&bytes[..end]).expect("a head is text");
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.strip_prefix("HTTP/1."))
            .and_then(|line| line.get(2..5)?.parse().ok())
            .unwrap_or_else(|| panic!("no status line: {shown}"));
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").expect("a header");
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            headers.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        let length = headers
            .get("content-length")
            .map_or(0, |value| value.to_str().expect("text").parse().expect("a number"));
        let body = bytes[end + 4..].get(..length).unwrap_or_else(|| panic!("cut off: {shown}"));
        let text = String::from_utf8(body.to_vec()).expect("UTF-8");
        answers.push(Answer { status, headers, text });
        bytes = &bytes[end + 4 + length..];
    }
    answers
}
