//! The Node project of this folder: installed below `target`, and its programs.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

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

/// The folder of the project, with its packages. The first call installs them, which needs the network
/// unless npm has them in its cache.
pub(crate) fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node");
        let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join("node");
        fs::create_dir_all(&to).expect("a folder");
        // Some test runners start a process for each test.
        let lock = File::create(to.join("lock")).expect("a lock file");
        lock.lock().expect("the lock");
        for file in FILES {
            fs::copy(from.join(file), to.join(file)).expect("a file of the project");
        }
        let wanted = fs::read(to.join("package-lock.json")).expect("the lock file of npm");
        let installed = to.join("node_modules/installed-lock.json");
        if fs::read(&installed).ok().as_ref() != Some(&wanted) {
            let mut npm = Command::new("npm");
            npm.args(["ci", "--no-audit", "--no-fund", "--prefer-offline", "--ignore-scripts"])
                .current_dir(&to);
            run(&mut npm, "npm installs the packages of the project");
            fs::write(installed, wanted).expect("a note of what is installed");
        }
        to
    })
}

/// A command of an installed package.
pub(crate) fn package_program(name: &str) -> Command {
    let mut command = Command::new(folder().join("node_modules/.bin").join(name));
    command.current_dir(folder());
    command
}

/// Node with a script of the project.
pub(crate) fn node(script: &str) -> Command {
    let mut command = Command::new("node");
    command.arg(script).current_dir(folder());
    command
}

/// Runs a command, and returns its output. Fails the test with the output if the command fails.
#[track_caller]
pub(crate) fn run(command: &mut Command, what: &str) -> Output {
    let name = command.get_program().to_owned();
    let output = command.output().unwrap_or_else(|error| {
        panic!("{} cannot be run ({error}): `cargo xtask test` installs Node", name.display())
    });
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{what}: {}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    output
}
