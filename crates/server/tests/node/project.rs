//! The Node project of this folder: installed below `target`, and its programs.

use std::{
    path::Path,
    process::{Command, Output},
    sync::OnceLock,
};

use vaultsync_testkit::node_project::{self, NodeProject};

/// Everything that runs in Node. The Rust files of this folder do not.
const FILES: [&str; 7] = [
    "package.json",
    "package-lock.json",
    "compressing-proxy.mjs",
    "lint.mjs",
    "tsconfig.json",
    "with-hey-api.ts",
    "with-openapi-typescript.ts",
];

/// The project. The first call installs its packages.
fn project() -> &'static NodeProject {
    static PROJECT: OnceLock<NodeProject> = OnceLock::new();
    PROJECT.get_or_init(|| {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node");
        let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join("node");
        NodeProject::install(&from, &FILES, to)
            .unwrap_or_else(|error| panic!("the project is not installed: {error:#}"))
    })
}

/// The folder of the project.
pub(crate) fn folder() -> &'static Path {
    project().folder()
}

/// A command of an installed package.
pub(crate) fn package_program(name: &str) -> Command {
    project().package_program(name)
}

/// Node with a script of the project.
pub(crate) fn node(script: &str) -> Command {
    project().node(script)
}

/// Runs a command, and returns its output. Fails the test with the output if the command fails.
#[track_caller]
pub(crate) fn run(command: &mut Command, what: &str) -> Output {
    node_project::run(command).unwrap_or_else(|error| panic!("{what}: {error:#}"))
}
