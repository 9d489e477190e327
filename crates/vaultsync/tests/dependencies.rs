//! The direction of dependencies between the project's crates (invariant I8 of ARCHITECTURE.md).

use std::{collections::BTreeMap, process::Command};

use serde_json::Value;

/// Every crate that the server is built from, and the project's crates that each may depend on. A crate
/// that can open records must never be listed for one of them.
const ALLOWED: [(&str, &[&str]); 5] = [
    ("vaultsync-protocol", &[]),
    ("vaultsync-tasks", &[]),
    ("vaultsync-store", &["vaultsync-protocol", "vaultsync-tasks"]),
    ("vaultsync-server", &["vaultsync-protocol", "vaultsync-store", "vaultsync-tasks"]),
    (
        "vaultsync",
        &["vaultsync-protocol", "vaultsync-server", "vaultsync-store", "vaultsync-tasks"],
    ),
];

#[test]
fn dependencies_of_the_server_point_one_way() {
    let found = project_dependencies();
    for (package, allowed) in ALLOWED {
        let dependencies = found.get(package).unwrap_or_else(|| panic!("no package {package}"));
        for dependency in dependencies {
            assert!(
                allowed.contains(&dependency.as_str()),
                "{package} must not depend on {dependency}"
            );
        }
    }
}

/// The dependencies of each package of the workspace on other packages of it, those of tests left out.
fn project_dependencies() -> BTreeMap<String, Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().expect("a list of dependencies");
            let project = dependencies.iter().filter(|dependency| {
                // A dependency of tests has the kind `dev`; one with a path is the project's own.
                dependency["kind"] != "dev" && dependency["path"].is_string()
            });
            (text(&package["name"]), project.map(|dependency| text(&dependency["name"])).collect())
        })
        .collect()
}
