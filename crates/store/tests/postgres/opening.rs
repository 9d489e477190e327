//! Databases that are not served from, and what is said of them.

use vaultsync_store::{DatabaseUrl, PostgresOptions};
use vaultsync_test_servers::{PostgresServer, query, shared_postgres};

use crate::{
    dsl::{applied, by, new_database, open, try_open, user},
    proxy::Proxy,
    support::postgres_options,
};

/// Opening is refused, and the words say why, without a password.
async fn check_refused(options: PostgresOptions, why: &str) {
    match try_open(options).await {
        Ok(_) => panic!("it is opened, though {why}"),
        Err(error) => {
            let told = error.to_string();
            assert!(told.contains(why) && !told.contains("s3cret"), "{told}");
        }
    }
}

fn address(text: &str) -> DatabaseUrl {
    text.parse().expect("an address")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_can_lose_what_it_acknowledged_is_refused_unless_that_is_allowed() {
    let server = PostgresServer::start_with(&[("fsync", "off")]);
    let options = by(vec![address(&server.url("postgres"))]);
    check_refused(options.clone(), "fsync=off").await;
    let store = open(PostgresOptions { allow_unsafe: true, ..options }).await;
    applied(&store, &user(), &[("r", None, "v1")]).await;

    let url = new_database();
    let name = url.to_string().rsplit('/').next().expect("a name").to_owned();
    let off = format!("alter database {name} set synchronous_commit = off");
    query(&shared_postgres().url("postgres"), &off);
    check_refused(by(vec![url.clone()]), "synchronous_commit=off").await;
    open(PostgresOptions { allow_unsafe: true, ..by(vec![url]) }).await;

    let url = new_database();
    let name = url.to_string().rsplit('/').next().expect("a name").to_owned();
    let role = format!("role_of_{name}");
    let off = format!(
        "create role {role} login superuser; alter role {role} set synchronous_commit = off"
    );
    query(&shared_postgres().url("postgres"), &off);
    let port = shared_postgres().port();
    let url = address(&format!("postgres://{role}@127.0.0.1:{port}/{name}"));
    check_refused(by(vec![url]), "synchronous_commit=off").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_does_not_wait_for_its_standbys_is_refused_unless_that_is_allowed() {
    let settings = [("synchronous_commit", "local"), ("synchronous_standby_names", "absent")];
    let server = PostgresServer::start_with(&settings);
    let options = by(vec![address(&server.url("postgres"))]);
    check_refused(options.clone(), "synchronous_commit=local").await;
    open(PostgresOptions { allow_unsafe: true, ..options }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_cannot_hold_every_text_is_refused() {
    let name = "in_latin1";
    let create = format!("create database {name} encoding 'LATIN1' template template0 locale 'C'");
    query(&shared_postgres().url("postgres"), &create);
    let url = address(&shared_postgres().url(name));
    check_refused(by(vec![url]), "not UTF8").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_that_lead_to_different_databases_are_refused() {
    let (one, two) = (new_database(), new_database());
    open(by(vec![two.clone()])).await;
    check_refused(by(vec![one.clone(), two.clone()]), "another database").await;
    let replicas = PostgresOptions { replicas: vec![two], ..by(vec![one]) };
    check_refused(replicas, "another database").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_no_database_to_push_to() {
    let server = PostgresServer::start();
    open(by(vec![address(&server.url("postgres"))])).await;
    let standby = server.standby();
    let replica = address(&standby.url("postgres"));
    check_refused(by(vec![replica]), "takes no writes").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_are_not_up_to_date_are_refused_where_they_may_not_be_changed() {
    let options = PostgresOptions { migrate: false, ..by(vec![new_database()]) };
    check_refused(options.clone(), "`vaultsync migrate`").await;
    vaultsync_store::migrate(&options.primaries[0]).await.expect("it works");
    open(options).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_may_only_read_and_write_rows_is_enough_to_serve() {
    let url = new_database();
    let name = url.to_string().rsplit('/').next().expect("a name").to_owned();
    vaultsync_store::migrate(&url).await.expect("it works");
    let role = format!("server_of_{name}");
    let grant = format!(
        "create role {role} login;
         grant select, insert, update on vaults, records to {role};
         grant select on deployment, refinery_schema_history to {role}"
    );
    query(&shared_postgres().url(&name), &grant);
    let port = shared_postgres().port();
    let url = address(&format!("postgres://{role}@127.0.0.1:{port}/{name}"));
    let (store, vault) = (open(by(vec![url])).await, user());
    applied(&store, &vault, &[("r", None, "v1")]).await;
    store.check().await.expect("it is well");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_be_reached_or_does_not_know_the_role_is_named_without_the_password() {
    let port = shared_postgres().port();
    for (text, why) in [
        ("postgres://me:s3cret@127.0.0.1:1/x".to_owned(), "127.0.0.1:1/x: "),
        (format!("postgres://nobody:s3cret@127.0.0.1:{port}/postgres"), "does not exist"),
        (format!("postgres://postgres:s3cret@127.0.0.1:{port}/nowhere"), "does not exist"),
        ("postgres://me:s3cret@no-such-host.invalid/x".to_owned(), "no-such-host.invalid"),
    ] {
        check_refused(by(vec![address(&text)]), why).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_several_addresses_may_be_away() {
    let there = postgres_options().primaries[0].clone();
    let away = address("postgres://127.0.0.1:1/vaultsync");
    for primaries in [vec![there.clone(), away.clone()], vec![away, there]] {
        let store = open(by(primaries)).await;
        for _ in 0..20 {
            applied(&store, &user(), &[("r", None, "v1")]).await;
        }
    }
    // One that is away only later.
    let proxies =
        [Proxy::to(shared_postgres().port()).await, Proxy::to(shared_postgres().port()).await];
    let store = open(by(proxies.iter().map(|proxy| proxy.url("vaultsync")).collect())).await;
    for (down, up) in [(0, 1), (1, 0), (0, 1)] {
        proxies[up].refuse(false);
        proxies[down].refuse(true);
        proxies[down].cut();
        for _ in 0..20 {
            applied(&store, &user(), &[("r", None, "v1")]).await;
        }
    }
}
