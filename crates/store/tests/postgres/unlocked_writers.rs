//! A program that writes records without the vault's lock, after a push has read them and before it writes:
//! the whole push is rolled back, and decided again by what is stored then.

use futures_util::future::join_all;
use tokio_postgres::{Client, NoTls};
use vaultsync_store::{PushOutcome, Vault};
use vaultsync_test_servers::shared_postgres;

use crate::{
    dsl::{open, push, push_applied, state, user},
    support::postgres_options,
};

async fn connect() -> Client {
    let url = shared_postgres().url("vaultsync");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

/// Waits until another connection waits for a lock of `writer`.
async fn until_blocking(writer: &Client, observer: &Client) {
    let row = writer.query_one("select pg_backend_pid()", &[]).await.expect("a response");
    let pid: i32 = row.get(0);
    let blocked = "select count(*) from pg_stat_activity where $1 = any(pg_blocking_pids(pid))";
    let blocked = async {
        while observer.query_one(blocked, &[&pid]).await.expect("a count").get::<_, i64>(0) == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(crate::dsl::RESPONSE_WITHIN, blocked).await.expect("a connection waits");
}

/// Writes to a vault without its lock. The transaction is left open.
async fn begin_write(rival: &Client, write: &str, vault: &Vault) {
    rival.batch_execute("begin").await.expect("it begins");
    let id = uuid::Uuid::from_bytes(*vault.id().as_bytes());
    assert_eq!(rival.execute(write, &[&id]).await.expect("a write"), 1);
}

const INSERTED: &str =
    "insert into records (vault_id, record_id, version, deleted, ciphertext, updated_at, digest)
     values ($1, 'contested', 1, false, 'theirs', 1, substr(sha256('theirs'), 1, 16))";
const UPDATED: &str = "update records set version = 2, ciphertext = 'theirs', updated_at = 1,
       digest = substr(sha256('theirs'), 1, 16)
     where vault_id = $1 and record_id = 'contested'";

fn summaries(records: &[(&str, i64, &str)]) -> Vec<(String, i64, String)> {
    let summary =
        |(id, version, text): &(&str, i64, &str)| ((*id).to_owned(), *version, (*text).to_owned());
    records.iter().map(summary).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_is_rolled_back_and_decided_again_after_an_unlocked_write() {
    for (theirs, base, version) in [(INSERTED, None, 1), (UPDATED, Some(1), 2)] {
        let (store, vault) = (open(postgres_options()).await, user());
        push_applied(&store, &vault, &[("old", None, "v1")]).await;
        if base.is_some() {
            push_applied(&store, &vault, &[("contested", None, "v1")]).await;
        }
        let (rival, observer) = (connect().await, connect().await);
        begin_write(&rival, theirs, &vault).await;
        let writes = [("beside", None, "mine"), ("contested", base, "mine")];
        let commits = async {
            until_blocking(&rival, &observer).await;
            rival.batch_execute("commit").await.expect("it is committed");
        };
        let (pushed, ()) = tokio::join!(push(&store, &vault, &writes), commits);
        let Ok(PushOutcome::Refused(refused)) = pushed else { panic!("{pushed:?}") };
        let conflict = &refused.conflicts[0];
        assert_eq!((refused.conflicts.len(), conflict.current_version.get()), (1, version));
        let expected = summaries(&[("contested", version, "theirs"), ("old", 1, "v1")]);
        assert_eq!(state(&store, &vault).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_pushes_of_a_batch_are_applied_despite_an_unlocked_write() {
    let store = open(postgres_options()).await;
    let vaults: Vec<_> = (0..40).map(|_| user()).collect();
    join_all(vaults.iter().map(|vault| push_applied(&store, vault, &[("old", None, "v1")]))).await;
    for (theirs, base, version) in [(INSERTED, None, 1), (UPDATED, Some(1), 2)] {
        let (rival, observer) = (connect().await, connect().await);
        begin_write(&rival, theirs, &vaults[20]).await;
        let writes = [("contested", base, "mine")];
        let commits = async {
            until_blocking(&rival, &observer).await;
            rival.batch_execute("commit").await.expect("it is committed");
        };
        let all = join_all(vaults.iter().map(|vault| push(&store, vault, &writes)));
        let (pushed, ()) = tokio::join!(all, commits);
        for (number, (pushed, vault)) in pushed.into_iter().zip(&vaults).enumerate() {
            let text = match pushed.expect("an outcome") {
                PushOutcome::Applied { .. } if number != 20 => "mine",
                PushOutcome::Refused(_) if number == 20 => "theirs",
                other => panic!("{number}: {other:?}"),
            };
            let expected = summaries(&[("contested", version, text), ("old", 1, "v1")]);
            assert_eq!(state(&store, vault).await, expected);
        }
    }
}
