//! Databases that a store refuses to open, and the reasons that it reports.

use vaultsync_store::{DatabaseUrl, PostgresOptions};
use vaultsync_test_servers::{PostgresServer, query, shared_postgres};

use crate::{
    dsl::{new_database, open, options_for, push_applied, try_open, user},
    proxy::Proxy,
    support::postgres_options,
};

/// Opening fails. The error contains the reason, and no password.
async fn check_refused(options: PostgresOptions, reason: &str) {
    match try_open(options).await {
        Ok(_) => panic!("it is opened: {reason}"),
        Err(error) => {
            let message = error.to_string();
            assert!(message.contains(reason) && !message.contains("s3cret"), "{message}");
        }
    }
}

fn address(text: &str) -> DatabaseUrl {
    text.parse().expect("an address")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_can_lose_writes_is_refused_unless_allowed() {
    let server = PostgresServer::start_with(&[("fsync", "off")]);
    let options = options_for(vec![address(&server.url("postgres"))]);
    check_refused(options.clone(), "fsync=off").await;
    let store = open(PostgresOptions { allow_unsafe: true, ..options }).await;
    push_applied(&store, &user(), &[("r", None, "v1")]).await;

    let url = new_database();
    let name = url.to_string().rsplit('/').next().expect("a name").to_owned();
    let off = format!("alter database {name} set synchronous_commit = off");
    query(&shared_postgres().url("postgres"), &off);
    check_refused(options_for(vec![url.clone()]), "synchronous_commit=off").await;
    open(PostgresOptions { allow_unsafe: true, ..options_for(vec![url]) }).await;

    let url = new_database();
    let name = url.to_string().rsplit('/').next().expect("a name").to_owned();
    let role = format!("role_of_{name}");
    let off = format!(
        "create role {role} login superuser; alter role {role} set synchronous_commit = off"
    );
    query(&shared_postgres().url("postgres"), &off);
    let port = shared_postgres().port();
    let url = address(&format!("postgres://{role}@127.0.0.1:{port}/{name}"));
    check_refused(options_for(vec![url]), "synchronous_commit=off").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_does_not_wait_for_standbys_is_refused_unless_allowed() {
    let settings = [("synchronous_commit", "local"), ("synchronous_standby_names", "absent")];
    let server = PostgresServer::start_with(&settings);
    let options = options_for(vec![address(&server.url("postgres"))]);
    check_refused(options.clone(), "synchronous_commit=local").await;
    open(PostgresOptions { allow_unsafe: true, ..options }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_with_another_encoding_is_refused() {
    let name = "in_latin1";
    let create = format!("create database {name} encoding 'LATIN1' template template0 locale 'C'");
    query(&shared_postgres().url("postgres"), &create);
    let url = address(&shared_postgres().url(name));
    check_refused(options_for(vec![url]), "not UTF8").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_of_different_databases_are_refused() {
    let (one, two) = (new_database(), new_database());
    open(options_for(vec![two.clone()])).await;
    check_refused(options_for(vec![one.clone(), two.clone()]), "different database").await;
    let replicas = PostgresOptions { replicas: vec![two], ..options_for(vec![one]) };
    check_refused(replicas, "different database").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_refused_as_a_primary() {
    let server = PostgresServer::start();
    open(options_for(vec![address(&server.url("postgres"))])).await;
    let standby = server.standby();
    let replica = address(&standby.url("postgres"));
    check_refused(options_for(vec![replica]), "read-only").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pending_migrations_are_refused_if_they_may_not_be_applied() {
    let options = PostgresOptions { migrate: false, ..options_for(vec![new_database()]) };
    check_refused(options.clone(), "`vaultsync migrate`").await;
    vaultsync_store::migrate(&options.primaries[0]).await.expect("the migration succeeds");
    open(options).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_can_only_read_and_write_rows_is_sufficient() {
    let url = new_database();
    let name = url.to_string().rsplit('/').next().expect("a name").to_owned();
    vaultsync_store::migrate(&url).await.expect("the migration succeeds");
    let role = format!("server_of_{name}");
    let grant = format!(
        "create role {role} login;
         grant select, insert, update on vaults, records to {role};
         grant select on deployment, refinery_schema_history to {role}"
    );
    query(&shared_postgres().url(&name), &grant);
    let port = shared_postgres().port();
    let url = address(&format!("postgres://{role}@127.0.0.1:{port}/{name}"));
    let (store, vault) = (open(options_for(vec![url])).await, user());
    push_applied(&store, &vault, &[("r", None, "v1")]).await;
    store.check().await.expect("the check passes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_error_names_the_database_without_the_password() {
    let port = shared_postgres().port();
    for (text, reason) in [
        ("postgres://me:s3cret@127.0.0.1:1/x".to_owned(), "127.0.0.1:1/x: "),
        (format!("postgres://nobody:s3cret@127.0.0.1:{port}/postgres"), "does not exist"),
        (format!("postgres://postgres:s3cret@127.0.0.1:{port}/nowhere"), "does not exist"),
        ("postgres://me:s3cret@no-such-host.invalid/x".to_owned(), "no-such-host.invalid"),
    ] {
        check_refused(options_for(vec![address(&text)]), reason).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_several_addresses_may_be_down() {
    let up = postgres_options().primaries[0].clone();
    let down = address("postgres://127.0.0.1:1/vaultsync");
    for primaries in [vec![up.clone(), down.clone()], vec![down, up]] {
        let store = open(options_for(primaries)).await;
        for _ in 0..20 {
            push_applied(&store, &user(), &[("r", None, "v1")]).await;
        }
    }
    // An address that goes down later.
    let proxies =
        [Proxy::to(shared_postgres().port()).await, Proxy::to(shared_postgres().port()).await];
    let store =
        open(options_for(proxies.iter().map(|proxy| proxy.url("vaultsync")).collect())).await;
    for (down, up) in [(0, 1), (1, 0), (0, 1)] {
        proxies[up].refuse(false);
        proxies[down].refuse(true);
        proxies[down].cut();
        for _ in 0..20 {
            push_applied(&store, &user(), &[("r", None, "v1")]).await;
        }
    }
}
