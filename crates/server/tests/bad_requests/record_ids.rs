//! Request bodies of reads of records by id.

use reqwest::Method;
use vaultsync_testkit::{Backend, backends};

use crate::{Target, Want, want};

backends!(
    a_body_that_is_not_json_is_invalid_json,
    record_ids_are_1_to_100_different_ids,
    the_media_type_is_that_of_a_push,
);

const PATHS: [&str; 2] = ["/api/sync/records", "/api/sync/vaults/notes/records"];

async fn a_body_that_is_not_json_is_invalid_json(backend: Backend) {
    let target = Target::start(backend).await;
    let good = r#"{"recordIds":["a"]}"#;
    let deep = format!(r#"{{"recordIds":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    for body in [
        "",
        "{",
        "recordIds=a",
        &format!("{good}{good}"),
        &good.replace('"', "'"),
        &good.replace(']', ",]"),
        &good.replace('a', r"\x61"),
        &good.replace('a', r"\ud800"),
        &good.replace('a', "\n"),
        &deep,
    ] {
        for path in PATHS {
            let request = target.request(Method::POST, path).body(body.to_owned());
            target.check(body, request, want(400, "invalid_json")).await;
        }
    }
}

async fn record_ids_are_1_to_100_different_ids(backend: Backend) {
    let target = Target::start(backend).await;
    let ids = |count: usize| {
        let ids: Vec<_> = (0..count).map(|number| format!(r#""{number}""#)).collect();
        format!(r#"{{"recordIds":[{}]}}"#, ids.join(","))
    };
    let (long, many, very_many) = ("x".repeat(256), ids(101), ids(50_000));
    let long = format!(r#"{{"recordIds":["{long}"]}}"#);
    let same = format!(r#"{{"recordIds":[{}"a"]}}"#, r#""a","#.repeat(99));
    let repeated: Vec<String> = (1..21).map(|index| format!("recordIds[{index}]")).collect();
    let repeated: Vec<&str> = repeated.iter().map(String::as_str).collect();
    let rows: [(&str, &[&str]); 31] = [
        ("null", &[""]),
        ("[]", &[""]),
        (r#"["a"]"#, &[""]),
        (r#""a""#, &[""]),
        ("{}", &["recordIds"]),
        (r#"{"recordids":["a"]}"#, &["recordIds"]),
        (r#"{"record_ids":["a"]}"#, &["recordIds"]),
        (r#"{"recordIds":null}"#, &["recordIds"]),
        (r#"{"recordIds":"a"}"#, &["recordIds"]),
        (r#"{"recordIds":{"0":"a"}}"#, &["recordIds"]),
        (r#"{"recordIds":1}"#, &["recordIds"]),
        (r#"{"recordIds":[]}"#, &["recordIds"]),
        (r#"{"recordIds":["a"],"recordIds":["b"]}"#, &["recordIds"]),
        (r#"{"recordIds":["a"],"record\u0049ds":["b"]}"#, &["recordIds"]),
        (&many, &["recordIds"]),
        (&very_many, &["recordIds"]),
        (r#"{"recordIds":[""]}"#, &["recordIds[0]"]),
        (r#"{"recordIds":[null]}"#, &["recordIds[0]"]),
        (r#"{"recordIds":[1]}"#, &["recordIds[0]"]),
        (r#"{"recordIds":[["a"]]}"#, &["recordIds[0]"]),
        (r#"{"recordIds":[{"recordId":"a"}]}"#, &["recordIds[0]"]),
        (r#"{"recordIds":["a\u0000"]}"#, &["recordIds[0]"]),
        (r#"{"recordIds":["\u007f"]}"#, &["recordIds[0]"]),
        (&long, &["recordIds[0]"]),
        (r#"{"recordIds":["a","b","a"]}"#, &["recordIds[2]"]),
        (r#"{"recordIds":["a","\u0061"]}"#, &["recordIds[1]"]),
        (&same, &repeated),
        (r#"{"recordIds":["a"],"epoch":""}"#, &["epoch"]),
        (r#"{"recordIds":["a"],"epoch":1}"#, &["epoch"]),
        (r#"{"recordIds":["a"],"epoch":null,"epoch":"e"}"#, &["epoch"]),
        (
            r#"{"recordIds":["",1,"a","a"],"epoch":[]}"#,
            &["epoch", "recordIds[0]", "recordIds[1]", "recordIds[3]"],
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

async fn the_media_type_is_that_of_a_push(backend: Backend) {
    let target = Target::start(backend).await;
    for path in PATHS {
        let request = || target.request(Method::POST, path).body(r#"{"recordIds":["a"]}"#);
        for (name, value) in [("content-type", "text/html"), ("content-encoding", "gzip")] {
            let request = request().header(name, value);
            target.check(value, request, want(415, "unsupported_media_type")).await;
        }
        let request = target.request(Method::GET, path);
        target.check("GET", request, want(405, "method_not_allowed")).await;
        let request = target.server.request(Method::POST, path).body("{");
        target.check("no token", request, want(401, "unauthorized")).await;
    }
}
