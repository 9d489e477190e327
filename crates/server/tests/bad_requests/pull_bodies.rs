//! Request bodies of pulls.

use reqwest::Method;
use vaultsync_testkit::{Backend, backends};

use crate::{Target, Want, want};

backends!(
    a_body_that_is_not_json_is_invalid_json,
    every_member_of_a_pull_is_typed_and_given_once,
    the_media_type_and_size_of_a_pull_are_those_of_a_push,
);

const PATHS: [&str; 2] = ["/api/sync/pull", "/api/sync/vaults/notes/pull"];

async fn a_body_that_is_not_json_is_invalid_json(backend: Backend) {
    let target = Target::start(backend).await;
    let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    for body in [
        "",
        " ",
        "{",
        "{}x",
        "{}{}",
        "limit=5",
        r#"{"limit":05}"#,
        r#"{"limit":}"#,
        "\u{feff}{}",
        &deep,
    ] {
        for path in PATHS {
            let request = target.request(Method::POST, path).body(body.to_owned());
            target.check(body, request, want(400, "invalid_json")).await;
        }
    }
}

async fn every_member_of_a_pull_is_typed_and_given_once(backend: Backend) {
    let target = Target::start(backend).await;
    let long = format!(r#"{{"cursor":"2024-01-15T10:30:00Z{}"}}"#, " ".repeat(1000));
    let rows: [(&str, &[&str]); 37] = [
        ("null", &[""]),
        ("[]", &[""]),
        ("5", &[""]),
        (r#""limit""#, &[""]),
        (r#"{"limit":null}"#, &["limit"]),
        (r#"{"limit":0}"#, &["limit"]),
        (r#"{"limit":101}"#, &["limit"]),
        (r#"{"limit":-1}"#, &["limit"]),
        (r#"{"limit":1.5}"#, &["limit"]),
        (r#"{"limit":1e3}"#, &["limit"]),
        (r#"{"limit":18446744073709551617}"#, &["limit"]),
        (r#"{"limit":"5"}"#, &["limit"]),
        (r#"{"limit":[5]}"#, &["limit"]),
        (r#"{"limit":true}"#, &["limit"]),
        (r#"{"limit":5,"limit":5}"#, &["limit"]),
        (r#"{"limit":5,"limi\u0074":5}"#, &["limit"]),
        (r#"{"wait":null}"#, &["wait"]),
        (r#"{"wait":56}"#, &["wait"]),
        (r#"{"wait":-1}"#, &["wait"]),
        (r#"{"wait":0.5}"#, &["wait"]),
        (r#"{"wait":"1"}"#, &["wait"]),
        (r#"{"wait":0,"wait":0}"#, &["wait"]),
        (r#"{"cursor":""}"#, &["cursor"]),
        (r#"{"cursor":0}"#, &["cursor"]),
        (r#"{"cursor":1705314600000}"#, &["cursor"]),
        (r#"{"cursor":"now"}"#, &["cursor"]),
        (r#"{"cursor":["2024-01-15T10:30:00Z"]}"#, &["cursor"]),
        (r#"{"cursor":null,"cursor":null}"#, &["cursor"]),
        (&long, &["cursor"]),
        (r#"{"epoch":""}"#, &["epoch"]),
        (r#"{"epoch":5}"#, &["epoch"]),
        (r#"{"epoch":{}}"#, &["epoch"]),
        (r#"{"epoch":null,"epoch":null}"#, &["epoch"]),
        (r#"{"since":""}"#, &["since"]),
        (r#"{"since":false}"#, &["since"]),
        (r#"{"since":"2024-01-15"}"#, &["since"]),
        (
            r#"{"since":0,"epoch":0,"wait":56,"limit":0,"cursor":0}"#,
            &["cursor", "limit", "wait", "epoch", "since"],
        ),
    ];
    for (body, issues) in rows {
        for path in PATHS {
            let request = target.request(Method::POST, path).body(body.to_owned());
            let want = Want { status: 400, code: "invalid_request", issues };
            target.check(body, request, want).await;
        }
    }
}

async fn the_media_type_and_size_of_a_pull_are_those_of_a_push(backend: Backend) {
    let mut setup = vaultsync_testkit::Setup::on(backend);
    setup.limits.body_bytes_max = 2048;
    let target = Target::start_with(setup).await;
    for path in PATHS {
        let request = target.request(Method::POST, path).header("content-type", "text/html");
        let what = "a body called HTML";
        target.check(what, request.body("{}"), want(415, "unsupported_media_type")).await;
        let request = target.request(Method::POST, path).header("content-encoding", "gzip");
        target.check("gzip", request.body("{}"), want(415, "unsupported_media_type")).await;
        let request = target.request(Method::POST, path).body(" ".repeat(2049));
        target.check("a long body", request, want(413, "payload_too_large")).await;
        let request = target.server.request(Method::POST, path).body("{}");
        target.check("no token", request, want(401, "unauthorized")).await;
    }
    let path = "/api/sync/vaults/Notes/pull";
    let want = Want { status: 400, code: "invalid_request", issues: &["vault"] };
    target.check(path, target.request(Method::POST, path).body("{}"), want).await;
}
