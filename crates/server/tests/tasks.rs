//! Background tasks: a failed one is reported and started again.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use reqwest::Method;
use tokio::net::TcpListener;
use vaultsync_testkit::{Answer, Backend, TestServer, send};

async fn get(server: &TestServer, path: &str) -> Answer {
    send(server.request(Method::GET, path)).await
}

#[tokio::test]
async fn a_failed_task_makes_the_server_not_ready_until_it_is_started_again() {
    const REASON: &str = "the task `fragile` failed and will be started again";
    let server = TestServer::start(Backend::Sqlite).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let metrics = format!("http://{}/metrics", listener.local_addr().unwrap());
    tokio::spawn(vaultsync_server::serve_admin(server.app.clone(), listener));
    let scrape = async || send(reqwest::Client::new().get(&metrics)).await.text;
    assert_eq!(get(&server, "/readyz").await.status, 200);

    let runs = Arc::new(AtomicU32::new(0));
    let task = server.app.tasks().spawn("fragile", move || {
        let run = runs.fetch_add(1, Ordering::Relaxed);
        async move {
            assert!(run >= 2, "run {run}");
            std::future::pending::<()>().await;
        }
    });
    let not_ready = loop {
        let answer = get(&server, "/readyz").await;
        if answer.status == 503 {
            break answer.json();
        }
    };
    assert_eq!(not_ready["reasons"], serde_json::json!([REASON]));
    assert_eq!(get(&server, "/healthz").await.status, 200);
    while !scrape().await.contains("vaultsync_task_restarts_total{task=\"fragile\"} 2\n") {}
    while get(&server, "/readyz").await.status != 200 {}
    let running = scrape().await;
    for task in ["fragile", "sqlite-writer"] {
        let line = format!("vaultsync_task_running{{task=\"{task}\"}} 1\n");
        assert!(running.contains(&line), "{running}");
    }
    for name in ["vaultsync_task_running", "vaultsync_task_restarts_total"] {
        assert!(running.contains(&format!("# HELP {name} ")), "{name} is described");
    }
    drop(task);
}
