//! The behaviour of the servers that other tests rely on.
#![cfg(unix)]

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use vaultsync_test_servers::{
    NatsServer, Nginx, PgBouncer, PostgresServer, query, shared_postgres,
};

/// Waits up to two minutes for a condition, which is enough even on a busy machine.
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..2400 {
        if condition() {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("not within two minutes: {what}");
}

fn connects(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[test]
fn many_threads_create_databases_from_one_template() {
    let server = shared_postgres();
    server.create_database("template", None);
    server.query("template", "create table things as select 7 as thing");
    thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || {
                let name = format!("copy \"{number}\"");
                server.create_database(&name, Some("template"));
            });
        }
    });
    let copies = "select count(*) from pg_database where datname like 'copy %'";
    assert_eq!(server.query("postgres", copies), "8");
    server.create_database("copy", Some("template"));
    assert_eq!(server.query("copy", "select thing from things"), "7");
    server.drop_database("copy");
    let dropped = "select count(*) from pg_database where datname = 'copy'";
    assert_eq!(server.query("postgres", dropped), "0");
}

#[test]
fn a_commit_is_synced_to_disk() {
    assert_eq!(shared_postgres().query("postgres", "show fsync"), "on");
}

#[test]
fn settings_and_files_take_effect_after_a_restart() {
    let server = PostgresServer::start_with(&[("cluster_name", "it's first")]);
    assert_eq!(server.query("postgres", "show cluster_name"), "it's first");
    server.put_file("pg_hba.conf", "host all postgres 127.0.0.1/32 trust\n");
    server.configure(&[("work_mem", "7MB")]);
    server.stop();
    assert!(!connects(server.port()));
    server.start_again();
    assert_eq!(server.query("postgres", "show work_mem"), "7MB");
    let rules = "select count(*) from pg_hba_file_rules where error is null";
    assert_eq!(server.query("postgres", rules), "1");
}

#[test]
fn a_kill_loses_no_commit() {
    let server = PostgresServer::start();
    for round in 1..=3 {
        server.query("postgres", &format!("create table round_{round} ()"));
        server.kill();
        assert!(!connects(server.port()));
        server.start_again();
    }
    let tables = "select count(*) from pg_class where relname like 'round%'";
    assert_eq!(server.query("postgres", tables), "3");
}

#[test]
fn a_pause_suspends_every_process_until_the_server_is_resumed() {
    let server = PostgresServer::start();
    let file = server.folder().join("postmaster.pid");
    let file = std::fs::read_to_string(file).expect("the server's pid file");
    let own = file.lines().next().expect("its process id");
    // For each process of the server, whether it is suspended.
    let suspended = || -> Vec<bool> {
        let ps = Command::new("ps").args("-A -o ppid= -o pid= -o stat=".split(' ')).output();
        let table = String::from_utf8(ps.expect("ps runs").stdout).expect("text");
        let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let rows = rows.filter(|row| row[..2].contains(&own));
        rows.map(|row| row[2].starts_with('T')).collect()
    };
    server.pause();
    eventually("all are suspended", || suspended().len() > 3 && suspended().iter().all(|is| *is));
    thread::scope(|scope| {
        let result = scope.spawn(|| server.query("postgres", "select 1"));
        server.resume();
        assert_eq!(result.join().expect("a result"), "1");
    });
    assert!(suspended().iter().all(|is| !is));
}

#[test]
fn a_standby_follows_its_server() {
    let server = PostgresServer::start();
    let standby = server.standby();
    assert_ne!(standby.port(), server.port());
    assert_eq!(standby.query("postgres", "select pg_is_in_recovery()"), "t");
    let tables = "select count(*) from pg_class where relname like 'thing%'";
    let follows = |count: &str| {
        eventually("the standby follows", || standby.query("postgres", tables) == count);
    };
    server.query("postgres", "create table thing_1 ()");
    follows("1");
    server.kill();
    server.start_again();
    server.query("postgres", "create table thing_2 ()");
    follows("2");
}

#[test]
fn a_bouncer_serves_every_database() {
    let server = shared_postgres();
    server.create_database("pooled", None);
    let bouncer = PgBouncer::start(server);
    assert_eq!(query(&bouncer.url("pooled"), "select current_database()"), "pooled");
    bouncer.stop();
    assert!(!connects(bouncer.port()));
    bouncer.start_again();
    assert_eq!(query(&bouncer.url("pooled"), "select 1"), "1");
    let console = query(&bouncer.url("pgbouncer"), "show config");
    assert!(console.contains("pool_mode|transaction|"), "{console}");
}

#[test]
fn nats_keeps_its_port_when_it_is_started_again() {
    let nats = NatsServer::start();
    for _ in 0..2 {
        let mut greeting = [0; 5];
        let mut stream =
            TcpStream::connect((Ipv4Addr::LOCALHOST, nats.port())).expect("it listens");
        stream.read_exact(&mut greeting).expect("it sends its greeting");
        assert_eq!(&greeting, b"INFO ");
        nats.stop();
        assert!(!connects(nats.port()));
        nats.start_again();
    }
}

#[test]
fn a_dropped_server_leaves_nothing() {
    let server = PostgresServer::start();
    let (port, folder) = (server.port(), server.folder());
    let folder = folder.parent().expect("the server's folder");
    assert!(folder.exists() && connects(port));
    drop(server);
    assert!(!folder.exists() && !connects(port));
}

#[test]
fn a_dropped_nginx_leaves_no_worker() {
    let nginx = Nginx::start(&[1]);
    let port = nginx.port();
    assert!(connects(port));
    drop(nginx);
    assert!(!connects(port));
}

/// Set in the child process that is killed: it runs servers, one of them suspended.
const RUN_SERVERS: &str = "VAULTSYNC_TEST_RUN_SERVERS";

#[test]
fn servers_stop_when_their_parent_process_is_killed() {
    if std::env::var_os(RUN_SERVERS).is_some() {
        return run_servers();
    }
    let own = std::env::current_exe().expect("this program's path");
    let mut parent = Command::new(own)
        .args(["--exact", "servers_stop_when_their_parent_process_is_killed", "--nocapture"])
        .env(RUN_SERVERS, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program can be run");
    let output = BufReader::new(parent.stdout.take().expect("stdout is piped"));
    let servers: Vec<(u16, PathBuf)> = output
        .lines()
        .filter_map(|line| {
            let line = line.expect("text");
            let mut words = line.strip_prefix("server ")?.splitn(2, ' ');
            Some((words.next()?.parse().expect("a port"), words.next()?.into()))
        })
        .take(4)
        .collect();
    assert_eq!(servers.len(), 4);
    for (port, folder) in &servers {
        assert!(connects(*port) && folder.exists(), "{}", folder.display());
    }
    parent.kill().expect("it can be killed");
    parent.wait().expect("it was killed");
    for (port, folder) in servers {
        eventually("the server stopped", || !connects(port));
        eventually("its folder is removed", || !folder.exists());
    }
}

fn run_servers() {
    fn print(port: u16, folder: &Path) {
        println!("\nserver {port} {}", folder.display());
    }
    let postgres = shared_postgres();
    print(postgres.port(), postgres.folder().parent().expect("the server's folder"));
    let bouncer = PgBouncer::start(postgres);
    print(bouncer.port(), bouncer.folder());
    let nats = NatsServer::start();
    print(nats.port(), nats.folder());
    let paused = PostgresServer::start();
    paused.pause();
    print(paused.port(), paused.folder().parent().expect("the server's folder"));
    // Until it is killed, or its parent exits.
    let _ = std::io::stdin().read(&mut [0]);
}
