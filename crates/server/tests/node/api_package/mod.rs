//! `packages/api`: it agrees with the server and its OpenAPI document, and can be used once it is packed.

mod project;
mod responses;

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};
use vaultsync_testkit::{Backend, TestServer};

use self::project::{PACKAGE, file_names, project};
use crate::{DOCUMENT, project::run};

/// Requests that the server refuses, as its own tests send them.
const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus");

#[test]
fn the_package_agrees_with_the_openapi_document() {
    run(project().node("agrees-with-document").arg(DOCUMENT), "the schemas agree");
}

#[tokio::test]
async fn the_package_accepts_every_kind_of_response() {
    let responses = serde_json::to_string(&responses::produce().await).expect("JSON");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("responses.json");
    fs::write(&file, responses).expect("a file");
    run(
        project().node("accepts-responses").args([DOCUMENT.as_ref(), file.as_path()]),
        "all accepted",
    );
}

#[tokio::test]
async fn the_package_and_the_server_accept_the_same_requests() {
    let mut program = project().node("decides-like-the-server");
    program.arg(CORPUS);
    let printed = run_with_server(program).await;
    let cases: u32 = printed.trim().parse().expect("the number of cases");
    assert!(cases >= 250, "only {cases} cases");
}

#[tokio::test]
async fn the_example_of_the_readme_runs() {
    let printed = run_with_server(project().node("readme")).await;
    assert_eq!(printed, "1 [ 'note-1@1' ]\n");
}

/// Runs a program with a server and a token, and returns its output.
async fn run_with_server(mut program: Command) -> String {
    let server = TestServer::start(Backend::Sqlite).await;
    program.env("VAULTSYNC_URL", server.url("")).env("VAULTSYNC_TOKEN", server.token("ada"));
    let ran = tokio::task::spawn_blocking(move || run(&mut program, "the program"));
    String::from_utf8(ran.await.expect("no panic").stdout).expect("UTF-8")
}

#[test]
fn the_package_contains_the_build_its_sources_and_the_licences() {
    let mut expected = vec!["LICENSE-APACHE", "LICENSE-MIT", "README.md", "package.json"]
        .into_iter()
        .map(str::to_owned)
        .collect::<Vec<_>>();
    for source in file_names(&Path::new(PACKAGE).join("src")) {
        let name = source.strip_suffix(".ts").expect("TypeScript");
        let built = ["d.ts", "d.ts.map", "js", "js.map"].map(|kind| format!("dist/{name}.{kind}"));
        expected.extend(built);
        expected.push(format!("src/{source}"));
    }
    expected.sort();
    let mut packed = project().packed.clone();
    packed.sort();
    assert_eq!(packed, expected);
}

#[test]
fn the_package_has_the_version_and_the_licences_of_the_server() {
    let package = fs::read(Path::new(PACKAGE).join("package.json")).expect("the package");
    let package: Value = serde_json::from_slice(&package).expect("JSON");
    assert_eq!(package["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(package["license"], env!("CARGO_PKG_LICENSE"));
    assert_eq!(package["dependencies"].as_object().expect("dependencies").len(), 1, "only Zod");
    assert_eq!(package["sideEffects"], json!(false));
    for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
        let read = |folder: &Path| fs::read(folder.join(licence)).expect("a licence");
        assert_eq!(read(Path::new(PACKAGE)), read(&Path::new(PACKAGE).join("../..")), "{licence}");
    }
}
