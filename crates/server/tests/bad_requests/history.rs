//! Queries of the history.

use vaultsync_testkit::{Backend, backends};

use crate::queries::check_invalid_at;

backends!(
    each_parameter_of_the_history_has_its_rule,
    parameters_that_do_not_go_together_are_named,
    a_parameter_of_the_history_may_be_given_once,
);

const ROUTES: [&str; 2] = ["history", "vaults/notes/history"];

const AT: &str = "at=2024-01-15T10:30:00Z";

async fn check_rows(backend: Backend, rows: &[(&str, &[&str])]) {
    let rows = rows.iter().map(|(query, issues)| (query.replace("AT", AT), *issues));
    check_invalid_at(backend, &ROUTES, rows).await;
}

async fn each_parameter_of_the_history_has_its_rule(backend: Backend) {
    let long = format!("recordId={}", "x".repeat(256));
    let wide = format!("AT&after={}", "%C3%A9".repeat(128));
    let epoch = format!("recordId=a&epoch={}", "e".repeat(65));
    let many = format!("recordId=a&{}", "limit=0&".repeat(30));
    let rows: [(&str, &[&str]); 31] = [
        ("recordId=", &["recordId"]),
        ("recordId=%00", &["recordId"]),
        ("recordId=a%0Ab", &["recordId"]),
        ("recordId=%7F", &["recordId"]),
        (&long, &["recordId"]),
        ("recordId=a&version=", &["version"]),
        ("recordId=a&version=0", &["version"]),
        ("recordId=a&version=-1", &["version"]),
        ("recordId=a&version=%2B1", &["version"]),
        ("recordId=a&version=1.0", &["version"]),
        ("recordId=a&version=1e3", &["version"]),
        ("recordId=a&version=null", &["version"]),
        ("recordId=a&version=9007199254740992", &["version"]),
        ("recordId=a&version=18446744073709551617", &["version"]),
        ("recordId=a&before=0", &["before"]),
        ("recordId=a&before=x", &["before"]),
        ("recordId=a&before=%D9%A3", &["before"]),
        ("recordId=a&limit=", &["limit"]),
        ("recordId=a&limit=0", &["limit"]),
        ("recordId=a&limit=1001", &["limit"]),
        ("AT&limit=1001", &["limit"]),
        ("AT&limit=ten", &["limit"]),
        ("at=", &["at"]),
        ("at=now", &["at"]),
        ("at=2024-01-15", &["at"]),
        ("at=1705314600000", &["at"]),
        ("at=2024-02-30T10:30:00Z", &["at"]),
        ("AT&after=%C2%80", &["after"]),
        (&wide, &["after"]),
        (&epoch, &["epoch"]),
        (&many, &["limit"; 20]),
    ];
    check_rows(backend, &rows).await;
}

async fn parameters_that_do_not_go_together_are_named(backend: Backend) {
    let rows: [(&str, &[&str]); 18] = [
        ("", &["recordId"]),
        ("limit=10", &["recordId"]),
        ("version=1", &["recordId"]),
        ("before=2&epoch=e", &["recordId"]),
        ("after=a", &["recordId"]),
        ("record_id=a", &["recordId"]),
        ("recordid=a", &["recordId"]),
        ("recordId=a&AT", &["at"]),
        ("recordId=a&version=1&AT&after=b", &["at"]),
        ("recordId=a&after=b", &["after"]),
        ("recordId=a&version=1&after=b", &["after"]),
        ("recordId=a&version=1&before=2", &["before"]),
        ("recordId=a&version=1&limit=2", &["limit"]),
        ("recordId=a&after=b&before=2&version=1&limit=2", &["after", "before", "limit"]),
        ("AT&version=1", &["version"]),
        ("AT&before=1", &["before"]),
        ("AT&before=1&version=1", &["before", "version"]),
        ("AT&before=0&version=1", &["before"]),
    ];
    check_rows(backend, &rows).await;
}

async fn a_parameter_of_the_history_may_be_given_once(backend: Backend) {
    let rows: [(&str, &[&str]); 7] = [
        ("recordId=a&recordId=a", &["recordId"]),
        ("recordId=a&record%49d=b", &["recordId"]),
        ("AT&AT", &["at"]),
        ("recordId=a&version=1&version=2", &["version"]),
        ("recordId=a&before=&before=", &["before"]),
        ("AT&after=&after=", &["after"]),
        ("AT&epoch=&epoch=e&limit=1&limit=1", &["epoch", "limit"]),
    ];
    check_rows(backend, &rows).await;
}
