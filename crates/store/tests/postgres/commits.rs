//! Commits whose response is lost, and stale connections.

use std::time::Duration;

use vaultsync_store::{PostgresOptions, PushOutcome, StoreError};
use vaultsync_test_servers::{PostgresServer, query, shared_postgres};

use crate::{
    dsl::{
        RECOVERY_WITHIN, TIMEOUT, open, open_through, push, push_applied, retry_until_ok, state,
        try_page, user,
    },
    proxy::Proxy,
    support::postgres_options,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_whose_commit_response_is_lost_is_applied_once() {
    let proxy = Proxy::to(shared_postgres().port()).await;
    let (store, vault) = (open_through(&proxy).await, user());
    for round in 1..=30 {
        proxy.lose_responses(1);
        let base = (round > 1).then_some(round - 1);
        let text = round.to_string();
        let writes = [("same", base, text.as_str()), (&format!("new {round}"), None, "v1")];
        assert_eq!(push_applied(&store, &vault, &writes).await, [round, 1]);
        assert_eq!(proxy.left_to_lose(), 0, "the response was lost");
        // A retry of the client.
        assert_eq!(push_applied(&store, &vault, &writes).await, [round, 1]);
    }
    let state = state(&store, &vault).await;
    assert_eq!(state.len(), 31);
    assert!(state.contains(&("same".to_owned(), 30, "30".to_owned())), "{state:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_write_before_the_second_attempt_is_not_a_conflict() {
    let proxy = Proxy::to(shared_postgres().port()).await;
    let (store, other, vault) =
        (open_through(&proxy).await, open(postgres_options()).await, user());
    for round in 0..30 {
        let id = format!("r{round}");
        // The commit succeeds, and its response is lost.
        proxy.lose_responses(1);
        let mine = [(id.as_str(), None, "mine")];
        let pushing = push(&store, &vault, &mine);
        let overtaking = async {
            // As soon as the record exists, another writer updates it.
            loop {
                match push(&other, &vault, &[(&id, Some(1), "theirs")]).await {
                    Ok(PushOutcome::Applied { results: written, .. })
                        if written[0].version.get() == 2 =>
                    {
                        return;
                    }
                    Ok(PushOutcome::Applied { results: written, .. }) => {
                        panic!("the update came first: {written:?}")
                    }
                    Ok(_) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        };
        let overtaking = async {
            while proxy.left_to_lose() > 0 {
                tokio::task::yield_now().await;
            }
            overtaking.await;
        };
        let (pushed, ()) = tokio::join!(pushing, overtaking);
        let Ok(PushOutcome::Applied { results: written, .. }) = pushed else {
            panic!("{pushed:?}")
        };
        assert_eq!(written[0].version.get(), 1, "the version of the first attempt");
    }
    for (id, version, text) in state(&store, &vault).await {
        assert_eq!((version, text.as_str()), (2, "theirs"), "{id}");
    }
}

/// The push inserts a record with base version 3, and its commit's response is lost. Others bring the
/// record to version 3 before the second attempt, or after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_commit_response_never_lets_a_retry_overwrite_what_others_wrote() {
    let proxy = Proxy::to(shared_postgres().port()).await;
    let (store, other, vault) =
        (open_through(&proxy).await, open(postgres_options()).await, user());
    for round in 0..30 {
        let id = format!("r{round}");
        proxy.lose_responses(1);
        let mine = [(id.as_str(), Some(3), "mine")];
        let pushing = push(&store, &vault, &mine);
        let others = async {
            while proxy.left_to_lose() > 0 {
                tokio::task::yield_now().await;
            }
            for base in 1..=2 {
                assert_eq!(
                    push_applied(&other, &vault, &[(&id, Some(base), "theirs")]).await,
                    [base + 1]
                );
            }
        };
        let (pushed, ()) = tokio::join!(pushing, others);
        let check = |outcome: &PushOutcome| match outcome {
            PushOutcome::Applied { results: written, .. } => {
                assert_eq!(written[0].version.get(), 1);
            }
            PushOutcome::Refused(refused) => {
                assert_eq!(refused.conflicts[0].current_version.get(), 3);
            }
            other => panic!("neither an epoch nor a limit is set: {other:?}"),
        };
        check(&pushed.expect("the second attempt finds the receipt"));
        // The client sends the same bytes again, however often.
        for _ in 0..3 {
            let again = push(&store, &vault, &mine).await.expect("the line is back");
            check(&again);
            assert!(matches!(again, PushOutcome::Refused(_)), "{again:?}");
        }
    }
    for (id, version, text) in state(&store, &vault).await {
        assert_eq!((version, text.as_str()), (3, "theirs"), "{id}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_database_leaves_the_outcome_unknown_until_a_retry() {
    let proxy = Proxy::to(shared_postgres().port()).await;
    let vault = user();
    for (round, is_committed) in [true, false, true, false].into_iter().enumerate() {
        let store = open_through(&proxy).await;
        let id = format!("r{round}");
        // Whether the first attempt is committed or not, the second one fails too.
        if is_committed {
            proxy.lose_responses(1);
            proxy.lose_commits(0);
        } else {
            proxy.lose_commits(2);
        }
        let create = [(id.as_str(), None, "v1")];
        let pushing = push(&store, &vault, &create);
        let cutting = async {
            while is_committed && proxy.left_to_lose() > 0 {
                tokio::task::yield_now().await;
            }
            if is_committed {
                proxy.refuse(true);
            }
        };
        let (pushed, ()) = tokio::join!(pushing, cutting);
        proxy.refuse(false);
        match &pushed {
            Err(StoreError::OutcomeUnknown(_)) => {}
            // The second attempt was faster than the cut.
            Ok(PushOutcome::Applied { .. }) if is_committed => {}
            other => panic!("{other:?}"),
        }
        let found = retry_until_ok(RECOVERY_WITHIN, || push(&store, &vault, &create)).await;
        let PushOutcome::Applied { results: written, .. } = found else { panic!("{found:?}") };
        assert_eq!(written[0].version.get(), 1);
    }
    let state = state(&open(postgres_options()).await, &vault).await;
    assert_eq!(state.len(), 4);
}

/// PostgreSQL reports success if the wait of a commit for replicas is cancelled, although no replica has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_no_replica_confirms_is_not_acknowledged() {
    let server = PostgresServer::start();
    let primaries = vec![server.url("postgres").parse().expect("an address")];
    let options = PostgresOptions { primaries, timeout: TIMEOUT, ..postgres_options() };
    let (store, vault) = (open(options).await, user());
    push_applied(&store, &vault, &[("before", None, "v1")]).await;
    let synchronous = |names: &str| {
        let set = format!("alter system set synchronous_standby_names = '{names}'");
        server.query("postgres", &set);
        server.query("postgres", "select pg_reload_conf()");
    };
    synchronous("nobody");
    // The server reloads its settings some time after the request.
    until_reloaded(&server, "nobody").await;
    let pushed = push(&store, &vault, &[("during", None, "v1")]).await;
    assert!(matches!(pushed, Err(StoreError::OutcomeUnknown(_))), "{pushed:?}");
    // A receipt of an unconfirmed commit does not acknowledge it either.
    for _ in 0..3 {
        let again = push(&store, &vault, &[("during", None, "v1")]).await;
        assert!(matches!(again, Err(StoreError::Unavailable(_))), "{again:?}");
    }
    synchronous("");
    let found =
        retry_until_ok(RECOVERY_WITHIN, || push(&store, &vault, &[("during", None, "v1")])).await;
    let PushOutcome::Applied { results: written, .. } = found else { panic!("{found:?}") };
    assert_eq!(written[0].version.get(), 1);
    assert_eq!(state(&store, &vault).await.len(), 2);
}

async fn until_reloaded(server: &PostgresServer, names: &str) {
    let reloaded = async {
        while server.query("postgres", "show synchronous_standby_names").trim() != names {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(RECOVERY_WITHIN, reloaded).await.expect("the settings are reloaded");
    // Each existing server process reloads them when it is next idle.
    tokio::time::sleep(Duration::from_millis(300)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_commit_is_repeated_by_the_second_attempt() {
    let proxy = Proxy::to(shared_postgres().port()).await;
    let (store, vault) = (open_through(&proxy).await, user());
    for round in 0..20 {
        proxy.lose_commits(1);
        assert_eq!(push_applied(&store, &vault, &[(&format!("r{round}"), None, "v1")]).await, [1]);
        assert_eq!(proxy.left_to_lose(), 0);
    }
    assert_eq!(state(&store, &vault).await.len(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_were_cut_while_idle_fail_no_request() {
    let proxy = Proxy::to(shared_postgres().port()).await;
    let (store, vault) = (open_through(&proxy).await, user());
    for round in 0..20 {
        assert_eq!(push_applied(&store, &vault, &[(&format!("a{round}"), None, "v1")]).await, [1]);
        proxy.cut();
        if round % 2 == 0 {
            assert_eq!(
                push_applied(&store, &vault, &[(&format!("b{round}"), None, "v1")]).await,
                [1]
            );
        } else {
            try_page(&store, &vault, None, 1).await.expect("a page");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_an_operator_terminated_fail_no_request() {
    let proxy = Proxy::to(shared_postgres().port()).await;
    let url = crate::dsl::new_database();
    let name = url.to_string().rsplit('/').next().map(str::to_owned).expect("a name");
    let store = open(crate::dsl::options_for(vec![proxy.url(&name)])).await;
    let vault = user();
    for round in 0..10 {
        assert_eq!(push_applied(&store, &vault, &[(&format!("a{round}"), None, "v1")]).await, [1]);
        let end = format!(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"
        );
        query(&shared_postgres().url("postgres"), &end);
        if round % 2 == 0 {
            assert_eq!(
                push_applied(&store, &vault, &[(&format!("b{round}"), None, "v1")]).await,
                [1]
            );
        } else {
            try_page(&store, &vault, None, 1).await.expect("a page");
        }
    }
}
