//! The package, built and packed below `target`, and a project that has installed it.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use serde_json::Value;
use vaultsync_testkit::node_project::NodeProject;

use crate::project::run;

/// The package in this repository.
pub(super) const PACKAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packages/api");

/// The files of the project that uses it.
const USER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node/api_package");

/// A project that has installed the packed package, and has nothing else of it.
#[derive(Debug)]
pub(super) struct Project {
    folder: PathBuf,
    /// The paths of the files in the package.
    pub(super) packed: Vec<String>,
}

/// The project. The first call builds and packs the package, and installs it.
pub(super) fn project() -> &'static Project {
    static PROJECT: OnceLock<Project> = OnceLock::new();
    PROJECT.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("api_package");
        fs::create_dir_all(&target).expect("a folder below target");
        // Some test runners start a process for each test.
        let lock = File::create(target.join("lock")).expect("a file below target");
        lock.lock().expect("a lock");
        let (folder, built_from, sources) =
            (target.join("user"), target.join("built-from"), sources());
        if fs::read(&built_from).ok().as_ref() != Some(&sources) {
            let package = build(&target);
            install(&package, &target, &folder);
            fs::write(built_from, sources).expect("a file below target");
        }
        let packed = packed(&target);
        let files = packed["files"].as_array().expect("files").iter();
        let path = |file: &Value| file["path"].as_str().expect("a path").to_owned();
        Project { folder, packed: files.map(path).collect() }
    })
}

impl Project {
    /// Node with a program of the project.
    pub(super) fn node(&self, program: &str) -> Command {
        let mut command = Command::new("node");
        command.arg(format!("built/{program}.js")).current_dir(&self.folder);
        command
    }
}

/// The names and contents of all files that decide what is built.
fn sources() -> Vec<u8> {
    let mut sources = Vec::new();
    for folder in [PACKAGE, &format!("{PACKAGE}/src"), USER] {
        for name in file_names(Path::new(folder)) {
            let content = fs::read(Path::new(folder).join(&name)).expect("a file");
            sources.extend(format!("{name} {}\n", content.len()).into_bytes());
            sources.extend(content);
        }
    }
    sources
}

/// The names of the files in a folder, sorted.
pub(super) fn file_names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    let files = entries.filter(|entry| entry.file_type().expect("a type").is_file());
    let mut names: Vec<_> =
        files.map(|file| file.file_name().into_string().expect("a name in UTF-8")).collect();
    names.sort();
    names
}

/// Builds and packs the package as a developer would who publishes it.
fn build(target: &Path) -> NodeProject {
    let folder = target.join("package");
    // What an earlier build left would be packed too.
    for stale in ["src", "dist"] {
        let _ = fs::remove_dir_all(folder.join(stale));
    }
    let mut files = file_names(Path::new(PACKAGE));
    let sources = file_names(&Path::new(PACKAGE).join("src"));
    files.extend(sources.iter().map(|name| format!("src/{name}")));
    let files: Vec<_> = files.iter().map(String::as_str).collect();
    let package = NodeProject::install(Path::new(PACKAGE), &files, folder)
        .unwrap_or_else(|error| panic!("the package's packages are not installed: {error:#}"));
    run(package.package_program("tsc").args(["--project", "."]), "TypeScript builds the package");
    let mut pack = npm("pack", package.folder());
    let packed = run(pack.args(["--json", "--pack-destination", ".."]), "npm packs the package");
    fs::write(target.join("packed.json"), packed.stdout).expect("a file below target");
    package
}

/// Installs the packed package into a new folder, and compiles the programs there.
fn install(package: &NodeProject, target: &Path, folder: &Path) {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).expect("a folder below target");
    for name in file_names(Path::new(USER)) {
        let file = Path::new(USER).join(&name);
        if file.extension() != Some("rs".as_ref()) {
            fs::copy(file, folder.join(name)).expect("a copy");
        }
    }
    let packed = packed(target);
    let tarball = target.join(packed["filename"].as_str().expect("a name"));
    fs::copy(tarball, folder.join("package.tgz")).expect("a copy");
    let readme = fs::read_to_string(package.folder().join("README.md")).expect("the README");
    let example = readme.split("```ts\n").nth(1).and_then(|rest| rest.split("```").next());
    fs::write(folder.join("readme.ts"), example.expect("an example")).expect("a copy");
    let flags = ["--no-audit", "--no-fund", "--no-package-lock", "--prefer-offline"];
    run(npm("install", folder).args(flags), "npm installs the package");
    let mut compiler = Command::new(folder.join("node_modules/.bin/tsc"));
    compiler.args(["--project", "."]).current_dir(folder);
    run(&mut compiler, "TypeScript accepts the programs that use the package");
}

/// What npm says of the package that it has packed.
fn packed(target: &Path) -> Value {
    let text = fs::read(target.join("packed.json")).expect("the output of npm");
    let mut packages: Value = serde_json::from_slice(&text).expect("JSON");
    // Later versions of npm list packages by their names.
    match &mut packages {
        Value::Object(packages) => packages.values_mut().next().map(Value::take),
        packages => packages.get_mut(0).map(Value::take),
    }
    .expect("a package")
}

/// A command of npm that runs no script of a package.
fn npm(command: &str, folder: &Path) -> Command {
    let mut npm = Command::new("npm");
    npm.args([command, "--ignore-scripts"]).current_dir(folder);
    npm
}
