//! Somebody who writes to records without the vault's lock, after a push has looked and before it writes:
//! the push is undone whole, and judged again by what is there then.

use futures_util::future::join_all;
use tokio_postgres::{Client, NoTls};
use vaultsync_store::{PushOutcome, Vault};
use vaultsync_test_servers::shared_postgres;

use crate::{
    dsl::{applied, open, push, state, user},
    support::postgres_options,
};

async fn connect() -> Client {
    let url = shared_postgres().url("vaultsync");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.expect("a line");
    tokio::spawn(connection);
    client
}

/// Until somebody waits for what `writer` has written.
async fn until_awaited(writer: &Client, observer: &Client) {
    let row = writer.query_one("select pg_backend_pid()", &[]).await.expect("an answer");
    let pid: i32 = row.get(0);
    let awaited = "select count(*) from pg_stat_activity where $1 = any(pg_blocking_pids(pid))";
    let awaited = async {
        while observer.query_one(awaited, &[&pid]).await.expect("a count").get::<_, i64>(0) == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(crate::dsl::TOLD_WITHIN, awaited).await.expect("somebody waits");
}

/// A write to a vault by somebody who does not lock it, to be committed.
async fn begin(rival: &Client, write: &str, vault: &Vault) {
    rival.batch_execute("begin").await.expect("it begins");
    let id = uuid::Uuid::from_bytes(*vault.id().as_bytes());
    assert_eq!(rival.execute(write, &[&id]).await.expect("a write"), 1);
}

const INSERTED: &str =
    "insert into records (vault_id, record_id, version, deleted, ciphertext, updated_at)
     values ($1, 'in the way', 1, false, 'theirs', 1)";
const UPDATED: &str = "update records set version = 2, ciphertext = 'theirs', updated_at = 1
     where vault_id = $1 and record_id = 'in the way'";

fn short(records: &[(&str, i64, &str)]) -> Vec<(String, i64, String)> {
    let short =
        |(id, version, text): &(&str, i64, &str)| ((*id).to_owned(), *version, (*text).to_owned());
    records.iter().map(short).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_of_what_somebody_else_writes_meanwhile_is_undone_and_judged_again() {
    for (theirs, base, version) in [(INSERTED, None, 1), (UPDATED, Some(1), 2)] {
        let (store, vault) = (open(postgres_options()).await, user());
        applied(&store, &vault, &[("old", None, "v1")]).await;
        if base.is_some() {
            applied(&store, &vault, &[("in the way", None, "v1")]).await;
        }
        let (rival, observer) = (connect().await, connect().await);
        begin(&rival, theirs, &vault).await;
        let writes = [("beside", None, "mine"), ("in the way", base, "mine")];
        let commits = async {
            until_awaited(&rival, &observer).await;
            rival.batch_execute("commit").await.expect("it is committed");
        };
        let (pushed, ()) = tokio::join!(push(&store, &vault, &writes), commits);
        let Ok(PushOutcome::Refused(refused)) = pushed else { panic!("{pushed:?}") };
        let conflict = &refused.conflicts[0];
        assert_eq!((refused.conflicts.len(), conflict.current_version.get()), (1, version));
        let expected = short(&[("in the way", version, "theirs"), ("old", 1, "v1")]);
        assert_eq!(state(&store, &vault).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushes_that_went_with_such_a_one_are_applied_all_the_same() {
    let store = open(postgres_options()).await;
    let vaults: Vec<_> = (0..40).map(|_| user()).collect();
    join_all(vaults.iter().map(|vault| applied(&store, vault, &[("old", None, "v1")]))).await;
    for (theirs, base, version) in [(INSERTED, None, 1), (UPDATED, Some(1), 2)] {
        let (rival, observer) = (connect().await, connect().await);
        begin(&rival, theirs, &vaults[20]).await;
        let writes = [("in the way", base, "mine")];
        let commits = async {
            until_awaited(&rival, &observer).await;
            rival.batch_execute("commit").await.expect("it is committed");
        };
        let all = join_all(vaults.iter().map(|vault| push(&store, vault, &writes)));
        let (pushed, ()) = tokio::join!(all, commits);
        for (number, (pushed, vault)) in pushed.into_iter().zip(&vaults).enumerate() {
            let text = match pushed.expect("an outcome") {
                PushOutcome::Applied(_) if number != 20 => "mine",
                PushOutcome::Refused(_) if number == 20 => "theirs",
                other => panic!("{number}: {other:?}"),
            };
            let expected = short(&[("in the way", version, text), ("old", 1, "v1")]);
            assert_eq!(state(&store, vault).await, expected);
        }
    }
}
