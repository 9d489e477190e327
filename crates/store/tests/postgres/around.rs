//! Somebody who writes to records without the vault's lock, after a push has looked and before it writes:
//! the push is undone whole, and judged again by what is there then.

use tokio_postgres::{Client, NoTls};
use vaultsync_private_servers::shared_postgres;
use vaultsync_store::PushOutcome;

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_of_what_somebody_else_writes_meanwhile_is_undone_and_judged_again() {
    let inserted =
        "insert into records (vault_id, record_id, version, deleted, ciphertext, updated_at)
         values ($1, 'in the way', 1, false, 'theirs', 1)";
    let updated = "update records set version = 2, ciphertext = 'theirs', updated_at = 1
         where vault_id = $1 and record_id = 'in the way'";
    for (theirs, base, version) in [(inserted, None, 1), (updated, Some(1), 2)] {
        let (store, vault) = (open(postgres_options()).await, user());
        applied(&store, &vault, &[("old", None, "v1")]).await;
        if base.is_some() {
            applied(&store, &vault, &[("in the way", None, "v1")]).await;
        }
        let (rival, observer) = (connect().await, connect().await);
        rival.batch_execute("begin").await.expect("it begins");
        let id = uuid::Uuid::from_bytes(*vault.id().as_bytes());
        assert_eq!(rival.execute(theirs, &[&id]).await.expect("a write"), 1);

        let writes = [("beside", None, "mine"), ("in the way", base, "mine")];
        let commits = async {
            until_awaited(&rival, &observer).await;
            rival.batch_execute("commit").await.expect("it is committed");
        };
        let (pushed, ()) = tokio::join!(push(&store, &vault, &writes), commits);
        let Ok(PushOutcome::Refused(refused)) = pushed else { panic!("{pushed:?}") };
        let conflict = &refused.conflicts[0];
        assert_eq!((refused.conflicts.len(), conflict.current_version.get()), (1, version));
        let expected = [("in the way", version, "theirs"), ("old", 1, "v1")];
        let expected =
            expected.map(|(id, version, text)| (id.to_owned(), version, text.to_owned()));
        assert_eq!(state(&store, &vault).await, expected);
    }
}
