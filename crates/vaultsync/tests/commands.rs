//! Commands that end by themselves: output and exit codes.
//!
//! Not here: a running server (`process/`).

use std::process::{Command, Output};

/// Runs the binary with `env` as its whole environment.
fn run(args: &[&str], env: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vaultsync"))
        .args(args)
        .env_clear()
        .envs(env.iter().copied())
        .output()
        .expect("the binary runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn results_go_to_standard_output_with_exit_code_0() {
    for args in [
        &["--version"][..],
        &["--help"],
        &["serve", "--help"],
        &["token", "--help"],
        &["verify", "--help"],
        &["config", "default"],
        &["config", "print"],
    ] {
        let output = run(args, &[]);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn an_invalid_command_line_exits_with_2() {
    for args in [
        &[][..],
        &["config"],
        &["dance"],
        &["serve", "--no-such-flag"],
        &["serve", "extra"],
        &["serve", "--listen", "a", "--listen", "b"],
        &["token"],
        &["token", "--user", ""],
        &["token", "--user", "ann", "--ttl", "31d"],
        &["token", "--user", "ann", "--ttl", "0s"],
    ] {
        let output = run(args, &[]);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn invalid_settings_exit_with_2_and_print_nothing() {
    for args in [&["serve"][..], &["token", "--user", "ann"], &["config", "print"]] {
        let output = run(args, &[("VAULTSYNC_IDLE_SECONDS", "never")]);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
        let message = stderr(&output);
        assert!(message.contains("idle_seconds (VAULTSYNC_IDLE_SECONDS): "), "{message}");
    }
}

#[test]
fn a_blank_value_exits_with_2() {
    for (args, env) in [
        (&["serve"][..], &[("VAULTSYNC_DATABASE_FILE", "/dev/null")][..]),
        (&["serve"], &[("VAULTSYNC_DATABASE", "")]),
        (&["serve", "--data-dir", " "], &[]),
    ] {
        let output = run(args, env);
        assert_eq!(output.status.code(), Some(2), "{args:?} {env:?}");
    }
}

#[test]
fn flags_change_settings() {
    let output = run(
        &[
            "config",
            "print",
            "--listen",
            "0.0.0.0:1",
            "--local-issuer",
            "--trusted-proxies",
            "10.0.0.0/8,::1",
        ],
        &[],
    );
    let printed = stdout(&output);
    for line in [
        "listen = \"0.0.0.0:1\" # --listen\n",
        "local_issuer = true # --local-issuer\n",
        "trusted_proxies = [\"10.0.0.0/8\", \"::1\"] # --trusted-proxies\n",
    ] {
        assert!(printed.contains(line), "{line}{printed}");
    }
}

#[test]
fn a_missing_settings_file_is_reported() {
    for (args, env) in [
        (&["config", "print", "--config", "/nowhere.toml"][..], &[][..]),
        (&["config", "print"], &[("VAULTSYNC_CONFIG", "/nowhere.toml")]),
    ] {
        let output = run(args, env);
        assert_eq!(output.status.code(), Some(2));
        let message = stderr(&output);
        assert!(message.contains("/nowhere.toml: cannot be read"), "{message}");
    }
}

#[test]
fn an_unknown_variable_causes_a_warning_on_standard_error() {
    let output = run(&["config", "print"], &[("VAULTSYNC_PORT", "tcp://10.0.0.1:80")]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stderr(&output).starts_with("warning: the environment variable VAULTSYNC_PORT"));
    assert!(!stdout(&output).contains("VAULTSYNC_PORT"));
}

#[test]
fn a_token_that_the_server_would_reject_is_not_minted() {
    let env = &[("CLERK_PUBLISHABLE_KEY", "pk_test_Y2xlcmsuZXhhbXBsZS5jb20k")];
    let output = run(&["token", "--user", "ann"], env);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    let message = stderr(&output);
    assert!(message.contains("the local issuer is off"), "{message}");
}

#[test]
fn the_compose_files_are_valid() {
    let compose = |arguments: &[&str]| {
        Command::new("docker")
            .arg("compose")
            .args(arguments)
            .env("POSTGRES_PASSWORD", "secret")
            .env("CLERK_PUBLISHABLE_KEY", "pk_test_Y2xlcmsuZXhhbXBsZS5jb20k")
            .output()
    };
    if !compose(&["version"]).is_ok_and(|version| version.status.success()) {
        println!("not run: `docker compose` is not installed");
        return;
    }
    let deploy = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy");
    for file in ["compose.yaml", "compose.citus.yaml"] {
        let checked = compose(&["-f", &format!("{deploy}/{file}"), "config", "--quiet"]);
        let checked = checked.expect("docker runs");
        assert!(checked.status.success(), "{file}: {}", String::from_utf8_lossy(&checked.stderr));
    }
}
