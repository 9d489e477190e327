//! `cargo xtask schemathesis`: requests generated from the OpenAPI document, and a check that the responses
//! match the document.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, bail, ensure};

use crate::steps::{cargo, run_one};

const VERSION: &str = "4.32.5";

/// The checks of responses. That everything the schema allows is accepted is not checked, because a schema
/// cannot express rules such as "only a tombstone may be empty".
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_schema_conformance,response_headers_conformance,\
                      negative_data_rejection,ignored_auth,unsupported_method,missing_required_header";

/// Installs the tool below `target`, starts a server, and runs the tool against it.
pub(crate) fn run(examples: u32) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("this package is in no workspace")?;
    let folder = root.join("target/schemathesis");
    let tool = folder.join("venv/bin/schemathesis");
    if !tool.exists() {
        fs::create_dir_all(&folder)?;
        run_program(Command::new("python3").args(["-m", "venv", "venv"]).current_dir(&folder))?;
        let package = format!("schemathesis=={VERSION}");
        run_program(
            Command::new(folder.join("venv/bin/pip")).args(["install", "--quiet", &package]),
        )?;
    }
    run_one("build", &mut cargo(&["build", "--locked", "--package", "vaultsync"]))?;
    let data = folder.join("data");
    let _ = fs::remove_dir_all(&data);
    let server = Server::start(&root.join("target/debug/vaultsync"), &data)?;
    let mut tests = Command::new(tool);
    tests.arg("run").arg(format!("http://{}/openapi.json", server.address));
    tests.args(["--header", &format!("Authorization: Bearer {}", server.token)]);
    tests.args(["--seed", "1", "--max-examples", &examples.to_string(), "--checks", CHECKS]);
    // A response of this endpoint never ends.
    tests.args(["--exclude-path", "/api/sync/events"]).current_dir(&folder);
    run_program(&mut tests)
}

fn run_program(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_owned();
    let status = command.status().with_context(|| format!("{} cannot be run", name.display()))?;
    ensure!(status.success(), "{} failed ({status})", name.display());
    Ok(())
}

/// A server that is killed when dropped.
struct Server {
    process: Child,
    address: String,
    token: String,
}

impl Server {
    fn start(program: &Path, data: &Path) -> anyhow::Result<Self> {
        let free_address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let address = free_address.to_string();
        let mut serve = Command::new(program);
        serve.args(["serve", "--rate-limit", "0", "--log", "warn", "--admin-listen", "off"]);
        serve.args(["--listen", &address, "--data-dir"]).arg(data).stdout(Stdio::null());
        let process = serve.spawn().context("the server cannot be started")?;
        let mut server = Self { process, address, token: String::new() };
        for _ in 0..100 {
            if TcpStream::connect(free_address).is_ok() {
                let mut token = Command::new(program);
                token.args(["token", "--user", "user", "--data-dir"]).arg(data);
                let output = token.output().context("no token can be minted")?;
                String::from_utf8_lossy(&output.stdout).trim().clone_into(&mut server.token);
                return Ok(server);
            }
            thread::sleep(Duration::from_millis(100));
        }
        bail!("the server does not become ready")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
