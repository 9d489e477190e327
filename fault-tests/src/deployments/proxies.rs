//! nginx, Caddy and HAProxy, each with its file of `deploy/`.

use vaultsync_test_servers::{ProxyProgram, ReverseProxy};

use super::{nodes::Nodes, substitute, trial::Trial};
use crate::{Scale, Scenario, ScenarioContext, ScenarioReport};

pub(super) const NGINX: Scenario = Scenario {
    name: "nginx",
    shows: "2 nodes behind nginx with deploy/nginx.conf",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(run(context, ProxyProgram::Nginx)),
};

pub(super) const CADDY: Scenario = Scenario {
    name: "caddy",
    shows: "2 nodes behind Caddy with deploy/Caddyfile",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(run(context, ProxyProgram::Caddy)),
};

pub(super) const HAPROXY: Scenario = Scenario {
    name: "haproxy",
    shows: "2 nodes behind HAProxy with deploy/haproxy.cfg",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(run(context, ProxyProgram::HaProxy)),
};

async fn run(context: ScenarioContext, program: ProxyProgram) -> anyhow::Result<ScenarioReport> {
    let mut nodes = Nodes::start(&context).await?;
    let ports = nodes.ports();
    // Checked here, because an error inside of `ReverseProxy::start` is a panic.
    config(program, ports, 1)?;
    let proxy = ReverseProxy::start(program, |port| {
        config(program, ports, port).expect("it is the same file as before")
    });
    let url = format!("http://127.0.0.1:{}", proxy.port());
    let mut trial = Trial::new(&context, url, &nodes.servers, program.version())?;
    trial.check().await?;
    if context.scale == Scale::Full {
        trial.restart(&mut nodes.servers).await?;
        trial.kill(&mut nodes.servers).await?;
        trial.outage(&nodes.postgres).await?;
        trial.kill_all(&mut nodes.servers).await?;
    }
    trial.finish(&nodes.servers, &nodes.database)
}

/// The shipped file, with the addresses of this machine.
fn config(program: ProxyProgram, nodes: [u16; 2], port: u16) -> anyhow::Result<String> {
    let [one, two] = nodes.map(|node| format!("127.0.0.1:{node}"));
    let nodes = [("node1:8787", one.as_str()), ("node2:8787", two.as_str())];
    match program {
        ProxyProgram::Nginx => {
            let listen = format!("listen 127.0.0.1:{port};");
            // As a package of nginx for a user who is not root would have them.
            let http = "http {\naccess_log off;\nclient_body_temp_path client;\nproxy_temp_path proxy;\n\
                        fastcgi_temp_path fastcgi;\nuwsgi_temp_path uwsgi;\nscgi_temp_path scgi;\n";
            let parts = [("listen 8080;", listen.as_str()), ("http {\n", http)];
            substitute(include_str!("../../../deploy/nginx.conf"), &[nodes, parts].concat())
        }
        ProxyProgram::Caddy => {
            let site = format!(":{port} {{\n\tbind 127.0.0.1");
            let parts = [nodes[0], nodes[1], (":8080 {", site.as_str())];
            let file = substitute(include_str!("../../../deploy/Caddyfile"), &parts)?;
            // Another Caddy of this machine may have the port for control.
            Ok(format!("{{\n\tadmin off\n}}\n{file}"))
        }
        ProxyProgram::HaProxy => {
            let bind = format!("bind 127.0.0.1:{port}");
            let parts = [nodes[0], nodes[1], ("bind :8080", bind.as_str())];
            substitute(include_str!("../../../deploy/haproxy.cfg"), &parts)
        }
    }
}
