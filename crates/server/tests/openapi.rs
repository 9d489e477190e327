//! The document at `/openapi.json`: it matches the committed one and the server. The same checks apply
//! to parts of `docs/PROTOCOL.md`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};
use vaultsync_server::{Clock as _, SystemClock};
use vaultsync_testkit::{Answer, Backend, Setup, TestServer, backends, operation, push_of, send};

// The other tests only need the document.
backends!(
    the_example_of_a_push_is_accepted,
    responses_match_the_document,
    responses_with_history_match_the_document,
    the_examples_of_the_protocol_page_match_the_document,
);

const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");

const PROTOCOL: &str = include_str!("../../../docs/PROTOCOL.md");

/// The routes in the document: all except the document itself and the page that shows it.
const ROUTES: [(&str, &str); 25] = [
    ("delete", "/api/sync/account"),
    ("get", "/api/sync/events"),
    ("get", "/api/sync/export"),
    ("get", "/api/sync/history"),
    ("get", "/api/sync/info"),
    ("get", "/api/sync/manifest"),
    ("get", "/api/sync/pull"),
    ("post", "/api/sync/pull"),
    ("post", "/api/sync/push"),
    ("post", "/api/sync/records"),
    ("get", "/api/sync/usage"),
    ("delete", "/api/sync/vault"),
    ("get", "/api/sync/vaults"),
    ("delete", "/api/sync/vaults/{vault}"),
    ("get", "/api/sync/vaults/{vault}/events"),
    ("get", "/api/sync/vaults/{vault}/export"),
    ("get", "/api/sync/vaults/{vault}/history"),
    ("get", "/api/sync/vaults/{vault}/manifest"),
    ("get", "/api/sync/vaults/{vault}/pull"),
    ("post", "/api/sync/vaults/{vault}/pull"),
    ("post", "/api/sync/vaults/{vault}/push"),
    ("post", "/api/sync/vaults/{vault}/records"),
    ("get", "/api/sync/vaults/{vault}/usage"),
    ("get", "/healthz"),
    ("get", "/readyz"),
];

async fn served(server: &TestServer) -> Value {
    let answer = send(server.request(Method::GET, "/openapi.json")).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    answer.json()
}

#[tokio::test]
async fn the_committed_document_is_the_served_one() {
    let server = TestServer::start(Backend::Sqlite).await;
    let document = vaultsync_server::openapi();
    let text = serde_json::to_string_pretty(&document).expect("JSON") + "\n";
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        fs::write(COMMITTED, &text).expect("docs/openapi.json can be written");
    }
    let committed = fs::read_to_string(COMMITTED).unwrap_or_default();
    assert!(
        committed == text,
        "The API does not match docs/openapi.json. If the change is intended, run\n\n    \
         UPDATE_OPENAPI=1 cargo test -p vaultsync-server --test openapi\n\nand commit the difference."
    );
    let committed: Value = serde_json::from_str(&committed).expect("JSON");
    assert_eq!(served(&server).await, committed);
}

#[tokio::test]
async fn the_document_is_openapi_3_1() {
    let document = served(&TestServer::start(Backend::Sqlite).await).await;
    assert!(document["openapi"].as_str().expect("a version").starts_with("3.1."), "{document}");
    assert_eq!(document["info"]["title"], "Vaultsync");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    // Keywords that OpenAPI 3.1 no longer has.
    let text = document.to_string();
    assert!(!text.contains("\"nullable\"") && !text.contains("\"exclusiveMinimum\":true"));
}

#[tokio::test]
async fn the_document_has_exactly_the_routes() {
    let server = TestServer::start(Backend::Sqlite).await;
    let document = served(&server).await;
    let paths = document["paths"].as_object().expect("paths");
    let mut described = Vec::new();
    for (path, methods) in paths {
        for method in methods.as_object().expect("methods").keys() {
            described.push((method.as_str(), path.as_str()));
        }
    }
    assert_eq!(described, ROUTES);
    for (method, path) in ROUTES {
        let path = path.replace("{vault}", "notes");
        let answer = send(server.request(Method::PATCH, &path)).await;
        assert_eq!(answer.status, 405, "{path} exists");
        let allowed: Vec<_> =
            answer.header("allow").split(',').filter(|one| *one != "HEAD").collect();
        assert!(allowed.contains(&&*method.to_uppercase()), "{path}: {allowed:?}");
        let methods = ROUTES.iter().filter(|(_, other)| other.replace("{vault}", "notes") == path);
        assert_eq!(allowed.len(), methods.count(), "{path}: {allowed:?}");
    }
    // `routes!` adds a route to the router and to the document; `.route(…)` only to the router.
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/routes");
    let mut undocumented = BTreeSet::new();
    for entry in fs::read_dir(folder).expect("the routes") {
        let source = fs::read_to_string(entry.expect("an entry").path()).expect("a source file");
        let paths = source.split(".route(").skip(1).filter_map(|rest| rest.split('"').nth(1));
        undocumented.extend(paths.map(str::to_owned));
    }
    let expected = ["/openapi.json", "/docs", "/docs/", "/docs/{*file}"].map(str::to_owned);
    assert_eq!(undocumented, BTreeSet::from(expected));
}

#[tokio::test]
async fn references_resolve_and_every_schema_is_used() {
    let document = served(&TestServer::start(Backend::Sqlite).await).await;
    let mut references = BTreeSet::new();
    collect_references(&document, &mut references);
    for reference in &references {
        let pointer = reference.strip_prefix('#').expect("a reference within the document");
        assert!(document.pointer(pointer).is_some(), "{reference} does not resolve");
    }
    for name in document["components"]["schemas"].as_object().expect("schemas").keys() {
        let reference = format!("#/components/schemas/{name}");
        assert!(references.contains(&reference), "nothing refers to {name}");
    }
}

fn collect_references(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if let ("$ref", Some(reference)) = (name.as_str(), member.as_str()) {
                    into.insert(reference.to_owned());
                }
                collect_references(member, into);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, into)),
        _ => {}
    }
}

#[tokio::test]
async fn only_routes_that_need_a_token_declare_it() {
    let server = TestServer::start(Backend::Sqlite).await;
    let document = served(&server).await;
    assert_eq!(document["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
    for (method, path) in ROUTES {
        let described = &document["paths"][path][method];
        let method = method.to_uppercase().parse().expect("a method");
        let answer = send(server.request(method, path)).await;
        let asked = described["security"] == json!([{ "bearer": [] }]);
        assert_eq!(answer.status == 401, asked, "{path}: {answer:?}");
        assert!(asked || described["security"] == json!([]), "{path} says that it needs no token");
    }
}

#[tokio::test]
async fn generated_clients_get_numbers_constants_and_codes() {
    let document = served(&TestServer::start(Backend::Sqlite).await).await;
    // Generators make a `BigInt` of it, which is sent as a text and refused.
    assert!(!document.to_string().contains("int64"), "an integer has the format int64");
    let schemas = &document["components"]["schemas"];
    for (name, value) in [("PushApplied", true), ("PushRefused", false)] {
        assert_eq!(schemas[name]["properties"]["success"]["const"], json!(value), "{name}");
    }
    for (name, member) in
        [("Record", "version"), ("Written", "version"), ("Conflict", "currentVersion")]
    {
        assert_eq!(
            schemas[name]["properties"][member]["maximum"],
            json!(9_007_199_254_740_991_u64)
        );
    }
    assert_eq!(document["servers"][0]["url"], ".", "relative to the document");

    // The codes in the table of the protocol page, by status.
    let mut table: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for row in PROTOCOL.lines().filter(|row| row.starts_with("| ")) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        if cells.len() == 6 && cells[1].len() == 3 && cells[1].parse::<u16>().is_ok() {
            table.entry(cells[1]).or_default().extend(cells[2].split('`').skip(1).step_by(2));
        }
    }
    let texts = |values: &Value| -> BTreeSet<String> {
        let values = values.as_array().expect("a list").iter();
        values.map(|value| value.as_str().expect("a text").to_owned()).collect()
    };
    let all: BTreeSet<_> = table.values().flatten().map(|code| (*code).to_owned()).collect();
    assert_eq!(texts(&schemas["Failure"]["properties"]["code"]["enum"]), all);
    for (method, path) in ROUTES {
        let responses = document["paths"][path][method]["responses"].as_object();
        for (status, response) in responses.expect("responses") {
            if status == "200" || status == "409" {
                continue;
            }
            let schema = &response["content"]["application/json"]["schema"]["allOf"];
            assert_eq!(schema[0]["$ref"], "#/components/schemas/Failure", "{path} {status}");
            let codes = texts(&schema[1]["properties"]["code"]["enum"]);
            let possible = &table[status.as_str()];
            assert!(!codes.is_empty(), "{path} {status}");
            for code in codes {
                assert!(possible.contains(&*code), "{path} {status}: {code}");
            }
        }
    }
    let of = |path: &str, method: &str, status: &str| {
        let schema = &document["paths"][path][method]["responses"][status]["content"];
        texts(&schema["application/json"]["schema"]["allOf"][1]["properties"]["code"]["enum"])
    };
    assert!(!of("/api/sync/push", "post", "410").contains("cursor_ahead"), "a push has no cursor");
    assert_eq!(of("/api/sync/pull", "get", "503").len(), 1, "a pull has no outcome");
    assert_eq!(of("/api/sync/push", "post", "503").len(), 2);
    assert_eq!(of("/api/sync/pull", "get", "401").len(), 9);
}

#[tokio::test]
async fn errors_link_to_their_code_in_the_documentation_if_there_is_any() {
    let server = TestServer::start(Backend::Sqlite).await;
    let document = served(&server).await;
    let codes = &document["components"]["schemas"]["Failure"]["properties"]["code"]["enum"];
    for code in codes.as_array().expect("codes") {
        let code = code.as_str().expect("a code");
        let anchor = format!(r#"<a id="error-{code}"></a>`{code}`"#);
        assert_eq!(PROTOCOL.matches(&anchor).count(), 1, "{anchor}");
    }
    assert_eq!(server.pull("ada", "?limit=0").await.json().get("docs"), None);
    let mut setup = Setup::on(Backend::Sqlite);
    setup.docs_url = Some("https://docs.example/protocol".to_owned());
    let server = TestServer::start_with(setup).await;
    let answer = server.pull("ada", "?limit=0").await.json();
    assert_eq!(answer["docs"], "https://docs.example/protocol#error-invalid_request");
}

#[tokio::test]
async fn every_route_of_a_named_vault_can_refuse_its_name() {
    let document = served(&TestServer::start(Backend::Sqlite).await).await;
    for (method, path) in ROUTES.iter().filter(|(_, path)| path.contains("{vault}")) {
        let refused = &document["paths"][path][method]["responses"]["400"];
        let schema = &refused["content"]["application/json"]["schema"]["allOf"][1];
        let codes = schema["properties"]["code"]["enum"].as_array().expect("codes");
        assert!(codes.contains(&json!("invalid_request")), "{method} {path}: {refused}");
    }
}

async fn the_example_of_a_push_is_accepted(backend: Backend) {
    let server = TestServer::start(backend).await;
    let document = served(&server).await;
    let body = &document["paths"]["/api/sync/push"]["post"]["requestBody"];
    let schema = resolve(&document, &body["content"]["application/json"]["schema"]);
    let example = &schema["example"];
    check(&document, schema, example, "the example");
    let answer = server.push("ada", example).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

async fn responses_match_the_document(backend: Backend) {
    let server = TestServer::start(backend).await;
    let document = served(&server).await;
    let get = |path: &str| send(server.request(Method::GET, path));
    let check = |method: &str, path: &str, status: u16, answer: &Answer| {
        check_response(&document, (method, path, status), answer);
    };
    check("get", "/api/sync/info", 200, &get("/api/sync/info").await);
    check("get", "/healthz", 200, &get("/healthz").await);
    check("get", "/readyz", 200, &get("/readyz").await);
    let pull = "/api/sync/pull";
    check("get", pull, 200, &server.pull("ada", "").await);
    let first = push_of([operation("a", None, b"1"), operation("b", None, b"")]);
    let push = "/api/sync/push";
    check("post", push, 200, &server.push("ada", &first).await);
    check("get", pull, 200, &server.pull("ada", "?limit=1").await);
    check("get", pull, 400, &server.pull("ada", "?limit=0").await);
    check("get", pull, 401, &get(pull).await);
    check("get", "/api/sync/events", 401, &get("/api/sync/events").await);
    check("get", pull, 410, &server.pull("ada", "?epoch=other").await);
    let post = async |body: &str| {
        let request = server.request(Method::POST, pull).bearer_auth(server.token("ada"));
        send(request.body(body.to_owned())).await
    };
    check("post", pull, 200, &post("{}").await);
    check("post", pull, 400, &post("{").await);
    check("post", pull, 410, &post(r#"{"epoch":"other"}"#).await);
    check("post", push, 409, &server.push("ada", &push_of([operation("a", None, b"2")])).await);
    check("post", push, 400, &server.push("ada", &json!({ "operations": [{}] })).await);
    check("post", push, 400, &server.push("ada", &json!(null)).await);
    let mut body = push_of([operation("none", Some(1), b"2")]);
    body["epoch"] = json!("other");
    check("post", push, 410, &server.push("ada", &body).await);
    body["epoch"] = server.pull("ada", "").await.json()["epoch"].clone();
    check("post", push, 409, &server.push("ada", &body).await);
    let records = "/api/sync/records";
    let read = async |body: &str| {
        let request = server.request(Method::POST, records).bearer_auth(server.token("ada"));
        send(request.body(body.to_owned())).await
    };
    check("post", records, 200, &read(r#"{"recordIds":["a","none"]}"#).await);
    check("post", records, 400, &read(r#"{"recordIds":[]}"#).await);
    check("post", records, 410, &read(r#"{"recordIds":["a"],"epoch":"other"}"#).await);
    let manifest = "/api/sync/manifest";
    let list = async |query: &str| {
        let request = server.request(Method::GET, &format!("{manifest}{query}"));
        send(request.bearer_auth(server.token("ada"))).await
    };
    check("get", manifest, 200, &list("?limit=1").await);
    check("get", manifest, 200, &list("").await);
    check("get", manifest, 400, &list("?limit=0").await);
    check("get", manifest, 410, &list("?epoch=other").await);
    for user in ["ada", "dora"] {
        let usage = server.request(Method::GET, "/api/sync/usage").bearer_auth(server.token(user));
        check("get", "/api/sync/usage", 200, &send(usage).await);
    }
    let form = server.request(Method::POST, push).bearer_auth(server.token("ada"));
    check("post", push, 415, &send(form.header("content-type", "text/html").body("x")).await);
    let large = server.request(Method::GET, pull).header("x-large", "x".repeat(40_000));
    check("get", pull, 431, &send(large).await);
    server.begin_stop();
}

async fn responses_with_history_match_the_document(backend: Backend) {
    let mut setup = Setup::on(backend);
    setup.limits.history_min_age_seconds = Duration::ZERO;
    let server = TestServer::start_with(setup).await;
    let document = served(&server).await;
    let check = async |query: &str, status: u16| {
        let path = "/api/sync/history";
        let request = server.request(Method::GET, &format!("{path}?{query}"));
        let answer = send(request.bearer_auth(server.token("ada"))).await;
        check_response(&document, ("get", path, status), &answer);
    };
    for number in 1..=3 {
        for query in ["recordId=a", "recordId=a&version=1", "recordId=a&version=2"] {
            check(query, 200).await;
        }
        check("at=2024-01-15T10:30:00Z", 200).await;
        check(&format!("at={}", SystemClock::start().now()), 200).await;
        let base = Some(number - 1).filter(|base| *base > 0);
        let push = push_of([operation("a", base, format!("v{number}").as_bytes())]);
        assert_eq!(server.push("ada", &push).await.status, 200);
    }
    check("recordId=a&epoch=other", 410).await;
    check("version=1", 400).await;
}

/// Checks a response against the description of its request in the document.
#[track_caller]
fn check_response(document: &Value, (method, path, status): (&str, &str, u16), answer: &Answer) {
    assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
    let described = &document["paths"][path][method]["responses"][status.to_string()];
    let what = format!("{method} {path} {status}");
    assert!(described.is_object(), "{what} is not described");
    for name in described["headers"].as_object().into_iter().flat_map(|headers| headers.keys()) {
        assert_ne!(answer.header(name), "", "{what}: {name}");
    }
    let schema = &described["content"]["application/json"]["schema"];
    check(document, schema, &answer.json(), &what);
}

fn resolve<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => document.pointer(&reference[1..]).expect("the reference resolves"),
        None => schema,
    }
}

/// Checks `value` against `schema`. Supports only the part of JSON Schema that the document uses, and
/// rejects members that the schema does not name.
#[track_caller]
fn check(document: &Value, schema: &Value, value: &Value, at: &str) {
    let schema = resolve(document, schema);
    if let Some(parts) = schema["allOf"].as_array() {
        // The first part describes every member, the others narrow some of them.
        check(document, &parts[0], value, at);
        for (name, described) in
            parts[1..].iter().flat_map(|part| part["properties"].as_object().expect("members"))
        {
            check(document, described, &value[name], &format!("{at}.{name}"));
        }
        return;
    }
    if let Some(options) = schema["oneOf"].as_array() {
        let members = |value: &Value| -> Vec<String> {
            value.as_object().into_iter().flat_map(|members| members.keys().cloned()).collect()
        };
        let has_the_members =
            |option: &&Value| members(&resolve(document, option)["properties"]) == members(value);
        let fitting: Vec<_> = options.iter().filter(has_the_members).collect();
        assert_eq!(fitting.len(), 1, "{at} is {value}, and should be one of {options:?}");
        return check(document, fitting[0], value, at);
    }
    if let Some(values) = schema["enum"].as_array() {
        assert!(values.contains(value), "{at} is {value}, and not one of {values:?}");
    }
    if let Some(constant) = schema.get("const") {
        assert_eq!(value, constant, "{at}");
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_u64() || number.is_i64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    assert!(types.contains(&is), "{at} is {value} and should be {types:?}");
    if let (Some(number), Some(minimum)) = (value.as_f64(), schema["minimum"].as_f64()) {
        assert!(number >= minimum, "{at} is {number}, less than {minimum}");
    }
    if let (Some(text), Some("date-time")) = (value.as_str(), schema["format"].as_str()) {
        assert!(vaultsync_protocol::Cursor::parse(text).is_ok(), "{at} is {text}, not a time");
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        check(document, &schema["items"], item, &format!("{at}[{index}]"));
    }
    let Some(members) = value.as_object() else { return };
    for required in schema["required"].as_array().into_iter().flatten() {
        let required = required.as_str().expect("a name");
        assert!(members.contains_key(required), "{at} has no {required}");
    }
    for (name, member) in members {
        let described = &schema["properties"][name.as_str()];
        assert!(described.is_object(), "{at}.{name} is not described");
        check(document, described, member, &format!("{at}.{name}"));
    }
}

#[tokio::test]
async fn a_member_that_is_always_present_is_required() {
    let document = served(&TestServer::start(Backend::Sqlite).await).await;
    // The only members of requests and responses that may be absent.
    let optional = [
        ("Conflict", "guard"),
        ("Failure", "docs"),
        ("Failure", "issues"),
        ("Failure", "operations"),
        ("Failure", "quota"),
        ("Failure", "reasons"),
        ("Failure", "usage"),
        ("PullRequest", "cursor"),
        ("PullRequest", "epoch"),
        ("PullRequest", "limit"),
        ("PullRequest", "since"),
        ("PullRequest", "wait"),
        ("PushApplied", "head"),
        ("PushApplied", "headBefore"),
        ("PushRefused", "hasMore"),
        ("PushRequest", "epoch"),
        ("PushRequest", "guards"),
        ("PushRequest", "since"),
        ("RecordsRequest", "epoch"),
    ];
    let mut found = Vec::new();
    for (name, schema) in document["components"]["schemas"].as_object().expect("schemas") {
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        for member in schema["properties"].as_object().expect("members").keys() {
            if !required.contains(&json!(member)) {
                found.push((name.as_str(), member.as_str()));
            }
        }
    }
    assert_eq!(found, optional);
}

#[tokio::test]
async fn the_protocol_page_documents_every_limit_status_and_code() {
    let server = TestServer::start(Backend::Sqlite).await;
    let info = send(server.request(Method::GET, "/api/sync/info")).await.json();
    for limit in info["limits"].as_object().expect("limits").keys() {
        assert!(PROTOCOL.contains(&format!("\n| `{limit}` |")), "no row for {limit}");
    }
    let document = served(&server).await;
    for (method, path) in ROUTES {
        let responses = &document["paths"][path][method]["responses"];
        for (status, response) in responses.as_object().expect("responses") {
            let is_documented = PROTOCOL.contains(&format!("\n| {status} | <a"));
            assert!(
                is_documented || ["200", "409"].contains(&status.as_str()),
                "no row for {status}"
            );
            let described = response["description"].as_str().expect("a description");
            for code in described.split('`').skip(1).step_by(2) {
                assert!(PROTOCOL.contains(&format!("`{code}`")), "{path} {status}: {code}");
            }
        }
    }
}

async fn the_examples_of_the_protocol_page_match_the_document(backend: Backend) {
    let server = TestServer::start(backend).await;
    let document = served(&server).await;
    let blocks = PROTOCOL.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next());
    let examples: Vec<Value> =
        blocks.map(|block| serde_json::from_str(block).expect("JSON")).collect();
    let schemas = [
        "Vaults",
        "PushRequest",
        "PushRequest",
        "PushApplied",
        "PushRefused",
        "Page",
        "PullRequest",
        "RecordsRequest",
        "FoundRecords",
        "Manifest",
        "RecordHistory",
        "FoundVersion",
        "PushRequest",
        "PastStates",
        "Usage",
        "Failure",
        "Failure",
    ];
    assert_eq!(examples.len(), schemas.len());
    for (example, name) in examples.iter().zip(schemas) {
        check(&document, &document["components"]["schemas"][name], example, name);
    }
    let answer = server.push("ada", &examples[1]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}
