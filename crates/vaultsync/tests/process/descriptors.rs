//! The limit of open files: raised at start, shared out, and reached.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::Command,
    time::Duration,
};

use serde_json::Value;

use crate::support::{Server, after, run, serve_command};

/// A server whose limits of open files are these, the soft one and the hard one.
fn start(folder: &Path, soft: u32, hard: u32) -> Server {
    let limits = format!("ulimit -Sn {soft} && ulimit -Hn {hard}");
    let mut command = after(&limits, &serve_command(&folder.join("data"), &[]));
    Server::spawn(command.stderr(File::create(folder.join("log")).unwrap()))
}

async fn connections_max(server: &Server) -> usize {
    let info: Value =
        reqwest::get(format!("{}/api/sync/info", server.url)).await.unwrap().json().await.unwrap();
    usize::try_from(info["limits"]["connectionsMax"].as_u64().unwrap()).unwrap()
}

/// Requests `/healthz` on a new connection, and returns the connection and the first line of the response.
fn request(server: &Server) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let mut response = Vec::new();
    while !response.ends_with(b"\r\n") {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "no response");
        response.push(byte[0]);
    }
    (stream, String::from_utf8(response).unwrap())
}

/// Opens connections until one is refused, and returns the others.
fn fill(server: &Server) -> Vec<TcpStream> {
    let mut open = Vec::new();
    loop {
        let (stream, status) = request(server);
        match status.split(' ').nth(1) {
            Some("200") => open.push(stream),
            Some("503") => return open,
            _ => panic!("{status}"),
        }
    }
}

#[tokio::test]
async fn the_limit_of_open_files_is_raised_and_caps_connections() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), 64, 512);
    let connections_max = connections_max(&server).await;
    assert!((200..500).contains(&connections_max), "{connections_max}");
    let log = || fs::read_to_string(folder.path().join("log")).unwrap();
    let warning = format!("connections_max is lowered from 10000 to {connections_max}");
    while !log().contains(&warning) {
        tokio::task::yield_now().await;
    }
    let open = fill(&server);
    // The connection of another request above may have been open for a moment.
    assert!(open.len() + 2 >= connections_max && open.len() <= connections_max, "{}", open.len());
    for _ in 0..20 {
        assert!(request(&server).1.starts_with("HTTP/1.1 503 "));
    }
    drop(open);
    while !request(&server).1.starts_with("HTTP/1.1 200 ") {}
}

#[test]
fn a_connection_without_a_descriptor_is_refused_and_not_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), 512, 512);
    // Served, so everything that the server opens at its start is open.
    let first = request(&server);
    let pid = server.id().to_string();
    let limit = |number: &str| {
        let (code, _, err) =
            run(Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={number}:512")]));
        assert_eq!(code, Some(0), "{err}");
    };
    // A limit at the lowest free number allows no further file.
    let open: BTreeSet<u32> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    let lowest_free = (0..512).find(|number| !open.contains(number)).unwrap();
    limit(&lowest_free.to_string());
    // Lower numbers may have been in use for a moment only.
    let open = fill(&server);
    assert!(open.len() < 10, "{}", open.len());
    for _ in 0..20 {
        assert!(request(&server).1.starts_with("HTTP/1.1 503 "));
    }
    drop((first, open));
    limit("512");
    while !request(&server).1.starts_with("HTTP/1.1 200 ") {}
    // One for each is too much for a log.
    let log = fs::read_to_string(folder.path().join("log")).unwrap();
    assert_eq!(log.matches("connections cannot be accepted").count(), 1, "{log}");
}

#[test]
fn a_limit_that_leaves_no_connection_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let (code, _, err) = run(&mut after("ulimit -n 48", &serve_command(folder.path(), &[])));
    assert_eq!(code, Some(1));
    assert!(err.contains("the limit of 48 open files is too low"), "{err}");
}
