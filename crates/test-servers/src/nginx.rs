//! nginx as a load balancer.

use crate::process_guard::{Kind, ProcessGuard};
use crate::processes::signal;
use crate::programs::NGINX;
use crate::reverse_proxy::has_written_pid;

// If its main process were killed, the others would go on.
static KIND: Kind = Kind { stop_signal: "TERM", kill_signal: "TERM", is_ready: has_written_pid };

/// A private nginx in front of HTTP servers on this machine. It sends each request to one of them, and never
/// to another one if that fails.
#[derive(Debug)]
#[must_use = "a server stops when it is dropped"]
pub struct Nginx(ProcessGuard);

impl Nginx {
    /// Starts nginx in front of servers on these ports.
    ///
    /// # Panics
    ///
    /// If it cannot be started, with the reason.
    pub fn start(upstreams: &[u16]) -> Self {
        let program = NGINX.path().into();
        let arguments = ["-p", ".", "-e", "log", "-c", "nginx.conf"].map(Into::into);
        let command = [&[program][..], &arguments].concat();
        Self(ProcessGuard::start(&KIND, &command, |folder, port| {
            folder.write("nginx.conf", config(port, upstreams));
        }))
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.0.port()
    }

    /// Replaces the servers, without cutting off requests: as a controller does that finds one not ready.
    pub fn set_upstreams(&self, upstreams: &[u16]) {
        self.0.folder().write("nginx.conf", config(self.port(), upstreams));
        signal("HUP", &[self.0.server()]);
    }
}

fn config(port: u16, upstreams: &[u16]) -> String {
    use std::fmt::Write as _;

    let mut servers = String::new();
    for upstream in upstreams {
        // `max_fails` is 0, so that nginx does not notice a failed server by itself.
        let _ = writeln!(servers, "server 127.0.0.1:{upstream} max_fails=0;");
    }
    let mut folders = String::new();
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        let _ = writeln!(folders, "{kind}_temp_path {kind};");
    }
    format!(
        "daemon off;\n\
         worker_processes 1;\n\
         pid nginx.pid;\n\
         error_log log;\n\
         events {{ worker_connections 1000; }}\n\
         http {{\n\
         access_log off;\n\
         {folders}\
         upstream nodes {{ {servers} keepalive 16; }}\n\
         server {{\n\
         listen 127.0.0.1:{port};\n\
         # A client may be sending its next request while a worker stops.\n\
         keepalive_timeout 0;\n\
         client_max_body_size 17m;\n\
         location / {{\n\
         proxy_pass http://nodes;\n\
         proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\";\n\
         proxy_next_upstream off;\n\
         }} }} }}\n"
    )
}
