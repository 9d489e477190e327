//! The page at `/docs/` in a real browser: it shows every operation and loads from no other host.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::net::TcpListener;
use vaultsync_testkit::{Backend, TestServer, send};

/// The browser: `VAULTSYNC_TEST_CHROMIUM`, or one in `PATH`.
fn browser() -> PathBuf {
    if let Some(path) = std::env::var_os("VAULTSYNC_TEST_CHROMIUM") {
        return path.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|candidate| candidate.is_file())
        .expect("no Chromium: run `cargo xtask test`, or set VAULTSYNC_TEST_CHROMIUM")
}

/// A process that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Opens `url` and waits for its scripts. Returns the document and the log of the browser.
async fn open(url: &str, folder: &Path) -> (String, String) {
    let file = |name: &str| std::fs::File::create(folder.join(name)).expect("a file");
    let mut browser = Running(
        Command::new(browser())
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"])
            .args(["--no-first-run", "--disable-background-networking", "--disable-sync"])
            .args(["--disable-component-update", "--disable-dev-shm-usage"])
            .args(["--enable-logging=stderr", "--v=0"])
            .arg(format!("--user-data-dir={}", folder.join("profile").display()))
            .args(["--virtual-time-budget=10000", "--dump-dom", url])
            .stdin(Stdio::null())
            .stdout(file("dom"))
            .stderr(file("log"))
            .spawn()
            .expect("the browser starts"),
    );
    let ended = async {
        while browser.0.try_wait().expect("the status of the browser").is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), ended).await.expect("the browser ends");
    let read = |name: &str| {
        let bytes = std::fs::read(folder.join(name)).expect("a file");
        String::from_utf8_lossy(&bytes).into_owned()
    };
    (read("dom"), read("log"))
}

/// The attributes of each element that starts with `element`, as text.
fn attributes<'a>(dom: &'a str, element: &str) -> Vec<&'a str> {
    dom.split(element).skip(1).filter_map(|rest| rest.split('>').next()).collect()
}

#[tokio::test]
async fn the_page_shows_every_operation_without_other_hosts() {
    let server = TestServer::start(Backend::Sqlite).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (dom, log) = open(&server.url("/docs/"), folder.path()).await;
    assert!(dom.contains("opblock"), "Swagger UI has run\n{log}\n{dom}");

    let document = send(server.request(reqwest::Method::GET, "/openapi.json")).await.json();
    let mut operations = 0;
    for (path, methods) in document["paths"].as_object().expect("paths") {
        // The page puts an element after each slash of a path, so that it can wrap.
        let shown = dom.contains(&format!("data-path=\"{path}\""));
        assert!(shown, "{path} is shown\n{dom}");
        for operation in methods.as_object().expect("methods").values() {
            let summary = operation["summary"].as_str().expect("a summary");
            assert!(dom.contains(summary), "{summary}\n{dom}");
            operations += 1;
        }
    }
    assert!(operations >= 5);
    assert!(dom.contains("/api/sync/push") && dom.contains("/api/sync/pull"));

    // What the page loads. Its links may lead to other hosts.
    let loaded: Vec<_> = ["<script", "<link", "<img", "<iframe", "<use"]
        .into_iter()
        .flat_map(|element| attributes(&dom, element))
        .collect();
    assert!(loaded.len() >= 3, "{loaded:?}");
    for element in loaded {
        assert!(!element.contains("//"), "{element}");
    }
    assert_no_browser_error(&log);
}

/// A proxy that serves the server below a path, and strips that path.
#[tokio::test]
async fn the_page_works_below_the_path_of_a_proxy() {
    let server = TestServer::start(Backend::Sqlite).await;
    let proxy =
        axum::Router::new().nest("/behind/a/proxy", vaultsync_server::router(server.app.clone()));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound address");
    tokio::spawn(vaultsync_server::serve(server.app.clone(), listener, proxy));
    // Without the slash at the end, so that the redirect is followed too.
    let url = format!("http://{address}/behind/a/proxy/docs");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (dom, log) = open(&url, folder.path()).await;
    assert!(dom.contains("data-path=\"/api/sync/push\""), "the document is loaded\n{log}\n{dom}");
    // "Try it out" sends requests to the server that the document names: relative to the document.
    assert!(
        dom.contains(r#"href="../openapi.json""#) && dom.contains(r#"<option value=".">"#),
        "{dom}"
    );
    assert_no_browser_error(&log);
}

#[tokio::test]
async fn the_page_shows_the_details_of_an_operation() {
    let server = TestServer::start(Backend::Sqlite).await;
    for (operation, shown) in
        [("push", "baseVersion"), ("pull", "hasMore"), ("events", "shows no event")]
    {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = server.url(&format!("/docs/#/sync/{operation}"));
        let (dom, log) = open(&url, folder.path()).await;
        assert!(dom.contains("Try it out") && dom.contains(shown), "{dom}");
        assert_no_browser_error(&log);
    }
}

#[track_caller]
fn assert_no_browser_error(log: &str) {
    assert!(!log.contains("Content Security Policy"), "{log}");
    assert!(!log.contains("Failed to load"), "{log}");
    assert!(!log.contains("Uncaught"), "{log}");
}
