//! Commits whose answer is lost, and connections that had gone stale.

use std::time::Duration;

use vaultsync_store::{PostgresOptions, PushOutcome, StoreError};
use vaultsync_test_servers::{PostgresServer, query, shared_postgres};

use crate::{
    dsl::{BACK_WITHIN, TIMEOUT, applied, open, open_by, push, state, try_page, until_ok, user},
    proxy::Proxy,
    support::postgres_options,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_whose_commit_is_not_answered_is_applied_once_and_answered() {
    let proxy = Proxy::to(shared_postgres().port()).await;
    let (store, vault) = (open_by(&proxy).await, user());
    for round in 1..=30 {
        proxy.lose_answers(1);
        let base = (round > 1).then_some(round - 1);
        let text = round.to_string();
        let writes = [("same", base, text.as_str()), (&format!("new {round}"), None, "v1")];
        assert_eq!(applied(&store, &vault, &writes).await, [round, 1]);
        assert_eq!(proxy.left_to_lose(), 0, "the answer was lost");
        // Sent once more by a client that saw nothing of all this.
        assert_eq!(applied(&store, &vault, &writes).await, [round, 1]);
    }
    let state = state(&store, &vault).await;
    assert_eq!(state.len(), 31);
    assert!(state.contains(&("same".to_owned(), 30, "30".to_owned())), "{state:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_writer_in_between_does_not_make_it_a_conflict() {
    let proxy = Proxy::to(shared_postgres().port()).await;
    let (store, other, vault) = (open_by(&proxy).await, open(postgres_options()).await, user());
    for round in 0..30 {
        let id = format!("r{round}");
        // The commit is done and its answer lost, and the next attempt finds nobody.
        proxy.lose_answers(1);
        let mine = [(id.as_str(), None, "mine")];
        let pushing = push(&store, &vault, &mine);
        let overtaking = async {
            // As soon as it is there, somebody else writes on top of it.
            loop {
                match push(&other, &vault, &[(&id, Some(1), "theirs")]).await {
                    Ok(PushOutcome::Applied(written)) if written[0].version.get() == 2 => return,
                    Ok(PushOutcome::Applied(written)) => panic!("they were first: {written:?}"),
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
        let Ok(PushOutcome::Applied(written)) = pushed else { panic!("{pushed:?}") };
        assert_eq!(written[0].version.get(), 1, "what was done the first time");
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
    let (store, other, vault) = (open_by(&proxy).await, open(postgres_options()).await, user());
    for round in 0..30 {
        let id = format!("r{round}");
        proxy.lose_answers(1);
        let mine = [(id.as_str(), Some(3), "mine")];
        let pushing = push(&store, &vault, &mine);
        let others = async {
            while proxy.left_to_lose() > 0 {
                tokio::task::yield_now().await;
            }
            for base in 1..=2 {
                assert_eq!(
                    applied(&other, &vault, &[(&id, Some(base), "theirs")]).await,
                    [base + 1]
                );
            }
        };
        let (pushed, ()) = tokio::join!(pushing, others);
        let check = |outcome: &PushOutcome| match outcome {
            PushOutcome::Applied(written) => assert_eq!(written[0].version.get(), 1),
            PushOutcome::Refused(refused) => {
                assert_eq!(refused.conflicts[0].current_version.get(), 3);
            }
            PushOutcome::EpochChanged => panic!("no epoch is named"),
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
async fn where_nobody_can_be_asked_the_outcome_is_unknown_and_a_retry_finds_it() {
    let proxy = Proxy::to(shared_postgres().port()).await;
    let vault = user();
    for (round, is_done) in [true, false, true, false].into_iter().enumerate() {
        let store = open_by(&proxy).await;
        let id = format!("r{round}");
        // Whether it was done or not, the next attempt's commit is cut off too.
        if is_done {
            proxy.lose_answers(1);
            proxy.lose_commits(0);
        } else {
            proxy.lose_commits(2);
        }
        let create = [(id.as_str(), None, "v1")];
        let pushing = push(&store, &vault, &create);
        let cutting = async {
            while is_done && proxy.left_to_lose() > 0 {
                tokio::task::yield_now().await;
            }
            if is_done {
                proxy.refuse(true);
            }
        };
        let (pushed, ()) = tokio::join!(pushing, cutting);
        proxy.refuse(false);
        match &pushed {
            Err(StoreError::OutcomeUnknown(_)) => {}
            // The second attempt was quicker than the cutting of the line.
            Ok(PushOutcome::Applied(_)) if is_done => {}
            other => panic!("{other:?}"),
        }
        let found = until_ok(BACK_WITHIN, || push(&store, &vault, &create)).await;
        let PushOutcome::Applied(written) = found else { panic!("{found:?}") };
        assert_eq!(written[0].version.get(), 1);
    }
    let state = state(&open(postgres_options()).await, &vault).await;
    assert_eq!(state.len(), 4);
}

/// PostgreSQL calls a commit done when its wait for replicas is cut short, though none has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_no_replica_confirms_is_not_acknowledged() {
    let server = PostgresServer::start();
    let primaries = vec![server.url("postgres").parse().expect("an address")];
    let options = PostgresOptions { primaries, timeout: TIMEOUT, ..postgres_options() };
    let (store, vault) = (open(options).await, user());
    applied(&store, &vault, &[("before", None, "v1")]).await;
    let synchronous = |names: &str| {
        let set = format!("alter system set synchronous_standby_names = '{names}'");
        server.query("postgres", &set);
        server.query("postgres", "select pg_reload_conf()");
    };
    synchronous("nobody");
    // Settings are read again some time after that is asked for.
    until_it_holds(&server, "nobody").await;
    let pushed = push(&store, &vault, &[("during", None, "v1")]).await;
    assert!(matches!(pushed, Err(StoreError::OutcomeUnknown(_))), "{pushed:?}");
    // Nor is it by the receipt of a commit that nobody confirmed.
    for _ in 0..3 {
        let again = push(&store, &vault, &[("during", None, "v1")]).await;
        assert!(matches!(again, Err(StoreError::Unavailable(_))), "{again:?}");
    }
    synchronous("");
    let found = until_ok(BACK_WITHIN, || push(&store, &vault, &[("during", None, "v1")])).await;
    let PushOutcome::Applied(written) = found else { panic!("{found:?}") };
    assert_eq!(written[0].version.get(), 1);
    assert_eq!(state(&store, &vault).await.len(), 2);
}

async fn until_it_holds(server: &PostgresServer, names: &str) {
    let holds = async {
        while server.query("postgres", "show synchronous_standby_names").trim() != names {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(BACK_WITHIN, holds).await.expect("settings are read again");
    // Of processes that are there already, each reads them when it is next idle.
    tokio::time::sleep(Duration::from_millis(300)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_never_arrived_is_done_by_the_second_attempt() {
    let proxy = Proxy::to(shared_postgres().port()).await;
    let (store, vault) = (open_by(&proxy).await, user());
    for round in 0..20 {
        proxy.lose_commits(1);
        assert_eq!(applied(&store, &vault, &[(&format!("r{round}"), None, "v1")]).await, [1]);
        assert_eq!(proxy.left_to_lose(), 0);
    }
    assert_eq!(state(&store, &vault).await.len(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_were_cut_while_idle_are_noticed_by_nobody() {
    let proxy = Proxy::to(shared_postgres().port()).await;
    let (store, vault) = (open_by(&proxy).await, user());
    for round in 0..20 {
        assert_eq!(applied(&store, &vault, &[(&format!("a{round}"), None, "v1")]).await, [1]);
        proxy.cut();
        if round % 2 == 0 {
            assert_eq!(applied(&store, &vault, &[(&format!("b{round}"), None, "v1")]).await, [1]);
        } else {
            try_page(&store, &vault, None, 1).await.expect("a page");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_an_operator_ended_are_noticed_by_nobody() {
    let proxy = Proxy::to(shared_postgres().port()).await;
    let url = crate::dsl::new_database();
    let name = url.to_string().rsplit('/').next().map(str::to_owned).expect("a name");
    let store = open(crate::dsl::by(vec![proxy.url(&name)])).await;
    let vault = user();
    for round in 0..10 {
        assert_eq!(applied(&store, &vault, &[(&format!("a{round}"), None, "v1")]).await, [1]);
        let end = format!(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"
        );
        query(&shared_postgres().url("postgres"), &end);
        if round % 2 == 0 {
            assert_eq!(applied(&store, &vault, &[(&format!("b{round}"), None, "v1")]).await, [1]);
        } else {
            try_page(&store, &vault, None, 1).await.expect("a page");
        }
    }
}
