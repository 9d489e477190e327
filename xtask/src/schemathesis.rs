//! `cargo xtask schemathesis`: requests made up from the OpenAPI document, and whether what is answered is
//! as the document says.

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

/// Whatever is answered is what the document says. Not checked: that all that its schema allows is
/// accepted, since rules such as that only a tombstone may be empty are not of the kind a schema can say.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_schema_conformance,response_headers_conformance,\
                      negative_data_rejection,ignored_auth,unsupported_method,missing_required_header";

/// Installs the tool below `target`, starts a server of its own, and lets it be asked.
pub(crate) fn run(examples: u32) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace")?;
    let folder = root.join("target/schemathesis");
    let tool = folder.join("venv/bin/schemathesis");
    if !tool.exists() {
        fs::create_dir_all(&folder)?;
        done(Command::new("python3").args(["-m", "venv", "venv"]).current_dir(&folder))?;
        let package = format!("schemathesis=={VERSION}");
        done(Command::new(folder.join("venv/bin/pip")).args(["install", "--quiet", &package]))?;
    }
    run_one("build", &mut cargo(&["build", "--locked", "--package", "vaultsync"]))?;
    let data = folder.join("data");
    let _ = fs::remove_dir_all(&data);
    let server = Server::start(&root.join("target/debug/vaultsync"), &data)?;
    let mut ask = Command::new(tool);
    ask.arg("run").arg(format!("http://{}/openapi.json", server.address));
    ask.args(["--header", &format!("Authorization: Bearer {}", server.token)]);
    ask.args(["--seed", "1", "--max-examples", &examples.to_string(), "--checks", CHECKS]);
    // It never ends.
    ask.args(["--exclude-path", "/api/sync/events"]).current_dir(&folder);
    done(&mut ask)
}

fn done(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_owned();
    let status = command.status().with_context(|| format!("{} cannot be run", name.display()))?;
    ensure!(status.success(), "{} failed ({status})", name.display());
    Ok(())
}

/// A server that ends with this.
struct Server {
    process: Child,
    address: String,
    token: String,
}

impl Server {
    fn start(program: &Path, data: &Path) -> anyhow::Result<Self> {
        let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let address = free.to_string();
        let mut serve = Command::new(program);
        serve.args(["serve", "--rate-limit", "0", "--log", "warn", "--admin-listen", "off"]);
        serve.args(["--listen", &address, "--data-dir"]).arg(data).stdout(Stdio::null());
        let process = serve.spawn().context("the server cannot be started")?;
        let mut server = Self { process, address, token: String::new() };
        for _ in 0..100 {
            if TcpStream::connect(free).is_ok() {
                let mut token = Command::new(program);
                token.args(["token", "--user", "somebody", "--data-dir"]).arg(data);
                let made = token.output().context("no token can be made")?;
                String::from_utf8_lossy(&made.stdout).trim().clone_into(&mut server.token);
                return Ok(server);
            }
            thread::sleep(Duration::from_millis(100));
        }
        bail!("the server does not answer")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
