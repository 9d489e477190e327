//! A log that cannot be written: everything else goes on.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
    process::Stdio,
    thread,
};

use crate::support::{Server, serve_command, vaultsync};

/// More lines than a pipe and the queue of the log hold.
const MANY: usize = 12_000;

/// Sends this many requests on one connection, and waits for their responses. Each logs a line.
fn send_requests(server: &Server, count: usize) {
    let stream = TcpStream::connect(server.address()).unwrap();
    let mut sending = stream.try_clone().unwrap();
    let requests = "GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n".repeat(count);
    let sender = thread::spawn(move || sending.write_all(requests.as_bytes()).unwrap());
    let mut lines = BufReader::new(stream).lines();
    let mut answered = 0;
    while answered < count {
        let line = lines.next().expect("the connection is not closed").unwrap();
        // A body has no line end of its own, so the next status line follows it.
        answered += usize::from(line.ends_with("HTTP/1.1 200 OK"));
    }
    sender.join().unwrap();
}

/// Waits until lost lines are counted for this reason.
async fn expect_lost(server: &Server, reason: &str) {
    let name = format!("vaultsync_log_lines_lost_total{{reason=\"{reason}\"}} ");
    loop {
        let metrics = reqwest::get(server.metrics_url()).await.unwrap().text().await.unwrap();
        let lost = metrics.lines().find_map(|line| line.strip_prefix(&name));
        if lost.is_some_and(|lines| lines != "0") {
            return;
        }
    }
}

async fn expect_served_and_stopped(stderr: impl Into<Stdio>, requests: usize, reason: &str) {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--admin-listen", "127.0.0.1:0"];
    let mut server = Server::spawn(serve_command(folder.path(), &flags).stderr(stderr));
    send_requests(&server, requests);
    expect_lost(&server, reason).await;
    let ready = reqwest::get(format!("{}/readyz", server.url)).await.unwrap();
    assert_eq!(ready.status(), 200);
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
}

#[tokio::test]
async fn a_closed_standard_error_costs_only_log_lines() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    expect_served_and_stopped(writer, 300, "write_failed").await;
}

#[tokio::test]
async fn a_full_disk_behind_standard_error_costs_only_log_lines() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    expect_served_and_stopped(full, 300, "write_failed").await;
}

#[tokio::test]
async fn a_standard_error_that_nobody_reads_costs_only_log_lines() {
    let (unread, writer) = std::io::pipe().unwrap();
    expect_served_and_stopped(writer, MANY, "queue_full").await;
    drop(unread);
}

#[test]
fn a_fatal_error_is_reported_by_its_exit_code_even_if_it_cannot_be_printed() {
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let (unread, writer) = std::io::pipe().unwrap();
    drop(unread);
    for stderr in [Stdio::from(full()), Stdio::from(writer)] {
        let status = vaultsync().args(["serve", "--listen", "nowhere"]).stderr(stderr).status();
        assert_eq!(status.unwrap().code(), Some(2));
    }
}

#[test]
fn the_last_lines_are_written_before_the_process_ends() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let data = folder.path().join("data");
    let mut server = Server::spawn(
        serve_command(&data, &["--log-format", "json"]).stderr(File::create(&log).unwrap()),
    );
    send_requests(&server, 500);
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    let written = std::fs::read_to_string(&log).unwrap();
    assert_eq!(written.matches("request handled").count(), 500);
    assert!(written.lines().last().unwrap().contains("\"stopped\""), "{written}");
}
