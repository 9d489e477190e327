use proptest::prelude::*;

use super::*;

const CIPHERTEXT_BYTES_MAX: usize = 12;

fn parse(body: &str) -> Result<Push, BodyError> {
    Push::from_json(body.as_bytes(), CIPHERTEXT_BYTES_MAX)
}

/// Body of a push with one operation that has these members.
fn one(members: &str) -> String {
    format!(r#"{{"operations":[{{{members}}}]}}"#)
}

#[track_caller]
fn check_issues(body: &str, paths: &[&str]) {
    let Err(BodyError::Invalid(issues)) = parse(body) else { panic!("{body} {:?}", parse(body)) };
    let found: Vec<&str> = issues.iter().map(|issue| issue.path.as_str()).collect();
    assert_eq!(found, paths, "{body}");
}

#[test]
fn a_complete_body_is_parsed() {
    let push = parse(
        r#"{"operations":[
            {"recordId":"a","baseVersion":null,"ciphertext":"aGk=","deleted":false},
            {"recordId":"\u0062","baseVersion":7,"ciphertext":"","deleted":true,"mood":[{}]},
            {"recordId":"c","baseVersion":9007199254740991,"ciphertext":"aGk=","deleted":true},
            {"recordId":"d","baseVersion":1.0,"ciphertext":"\u0061Gk=","deleted":false}
        ],"epoch":"e","unknown":{"epoch":3}}"#,
    )
    .unwrap();
    let seen: Vec<_> = push
        .operations()
        .iter()
        .map(|op| {
            let base = op.base_version.map(Version::get);
            (op.record_id.as_str(), base, op.ciphertext.as_bytes(), op.deleted)
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("a", None, &b"hi"[..], false),
            ("b", Some(7), b"", true),
            ("c", Some(9_007_199_254_740_991), b"hi", true),
            ("d", Some(1), b"hi", false),
        ]
    );
    assert_eq!(push.epoch(), KnownEpoch::new("e").as_ref());
    assert_eq!(push.ciphertext_bytes(), 6);
}

#[test]
fn an_empty_push_is_valid() {
    assert_eq!(parse(r#"{"operations":[]}"#).unwrap().operations(), []);
    assert_eq!(parse(r#"{"operations":[],"epoch":null}"#).unwrap().epoch(), None);
}

#[test]
fn all_issues_are_reported_at_once_with_their_paths() {
    let at = |member: &str| format!("operations[0].{member}");
    check_issues("[]", &[""]);
    check_issues("null", &[""]);
    check_issues("{}", &["operations"]);
    check_issues(r#"{"operations":{}}"#, &["operations"]);
    check_issues(r#"{"operations":null}"#, &["operations"]);
    check_issues(r#"{"operations":[],"operations":[]}"#, &["operations"]);
    check_issues(r#"{"operations":[],"epoch":""}"#, &["epoch"]);
    check_issues(r#"{"operations":[],"epoch":5}"#, &["epoch"]);
    check_issues(r#"{"operations":[],"epoch":"a","epoch":"a"}"#, &["epoch"]);
    check_issues(
        r#"{"operations":[1,null,[]]}"#,
        &["operations[0]", "operations[1]", "operations[2]"],
    );
    check_issues(
        &one(""),
        &[&at("recordId"), &at("baseVersion"), &at("ciphertext"), &at("deleted")],
    );
    check_issues(
        &one(r#""recordId":1,"baseVersion":"1","ciphertext":{},"deleted":"no""#),
        &[&at("recordId"), &at("baseVersion"), &at("ciphertext"), &at("deleted")],
    );
    let rest = r#""ciphertext":"aGk=","deleted":false"#;
    for base in ["-1", "1.5", "9007199254740992", "18446744073709551615", "true", "[]", "1e300"] {
        let body = one(&format!(r#""recordId":"a","baseVersion":{base},{rest}"#));
        check_issues(&body, &[&at("baseVersion")]);
    }
    let head = r#""recordId":"a","baseVersion":null"#;
    for ciphertext in ["aGk", "aGl=", "aGk=\\n", "a-_=", "=", "AAAAAAAAAAAAAAAAAA==", "é"] {
        let body = one(&format!(r#"{head},"ciphertext":"{ciphertext}","deleted":false"#));
        check_issues(&body, &[&at("ciphertext")]);
    }
    check_issues(&one(&format!(r#"{head},"ciphertext":"","deleted":false"#)), &[&at("ciphertext")]);
    check_issues(&one(&format!(r#"{head},{rest},"deleted":false"#)), &[&at("deleted")]);
    check_issues(
        &one(&format!(r#""recordId":"a\u0000","baseVersion":0,{rest}"#)),
        &[&at("recordId")],
    );
}

#[test]
fn issues_name_the_broken_rule() {
    #[track_caller]
    fn check_messages(body: &str, messages: &[&str]) {
        let Err(BodyError::Invalid(issues)) = parse(body) else { panic!("{body}") };
        let found: Vec<&str> = issues.iter().map(|issue| issue.message.as_str()).collect();
        assert_eq!(found, messages, "{body}");
    }
    let base = format!("must be null or a whole number from 0 to {}", Version::MAX.get());
    check_messages(&one(""), &[MISSING; 4]);
    let (text, flag) = ("must be a string", "must be true or false");
    for other in ["[1]", r#"{"a":1}"#] {
        let members = ["recordId", "baseVersion", "ciphertext", "deleted"]
            .map(|member| format!(r#""{member}":{other}"#));
        check_messages(&one(&members.join(",")), &[text, &base, text, flag]);
        check_messages(&one(&[members.join(","), members.join(",")].join(",")), &[DUPLICATE; 4]);
        check_messages(&format!(r#"{{"operations":[],"epoch":{other}}}"#), &[KnownEpoch::RULE]);
    }
    check_messages(r#"{"operations":[],"epoch":"a","epoch":"a"}"#, &[DUPLICATE]);
    let long =
        r#""recordId":"a","baseVersion":0,"ciphertext":"AAAAAAAAAAAAAAAAAAAA","deleted":false"#;
    check_messages(&one(long), &["must be at most 12 bytes when decoded"]);
    check_issues(r#"{"operations":[[1],2]}"#, &["operations[0]", "operations[1]"]);
    check_issues(r#"{"operations":{"a":[1]},"epoch":5}"#, &["epoch", "operations"]);
}

#[test]
fn a_record_may_appear_in_a_batch_only_once() {
    let op = |id: &str| {
        format!(r#"{{"recordId":"{id}","baseVersion":0,"ciphertext":"aGk=","deleted":false}}"#)
    };
    let body = format!(r#"{{"operations":[{},{},{}]}}"#, op("a"), op("b"), op("\\u0061"));
    check_issues(&body, &["operations[2].recordId"]);
}

#[test]
fn the_numbers_of_operations_and_issues_are_limited() {
    let batch = |count: usize| {
        let ops: Vec<_> = (0..count)
            .map(|n| {
                format!(
                    r#"{{"recordId":"{n}","baseVersion":null,"ciphertext":"aGk=","deleted":true}}"#
                )
            })
            .collect();
        format!(r#"{{"operations":[{}]}}"#, ops.join(","))
    };
    assert_eq!(parse(&batch(100)).unwrap().operations().len(), 100);
    check_issues(&batch(101), &["operations"]);
    let Err(BodyError::Invalid(issues)) =
        parse(&format!(r#"{{"operations":[{}1]}}"#, "1,".repeat(99)))
    else {
        panic!("a number is not an operation")
    };
    assert_eq!(issues.len(), Issues::MAX);
}

#[test]
fn bodies_that_are_not_json_or_nested_too_deeply_are_json_errors() {
    let nested = |levels: usize| {
        format!(r#"{{"operations":[],"x":{}{}}}"#, "[".repeat(levels), "]".repeat(levels))
    };
    assert!(parse(&nested(crate::json::NESTING_MAX - 1)).is_ok());
    for body in [
        "",
        " ",
        "{",
        "{\"operations\":[]",
        "nul",
        "{'operations':[]}",
        "{\"operations\":[],}",
        "{\"operations\":[]}x",
        "{\"operations\":[]}{}",
        "\u{feff}{\"operations\":[]}",
        r#"{"operations":[{"recordId":"\ud800"}]}"#,
        "{\"operations\":[1e999]}",
        &nested(crate::json::NESTING_MAX),
        &nested(100_000),
    ] {
        assert!(matches!(parse(body), Err(BodyError::Json(_))), "{body:.60}");
    }
    assert!(matches!(Push::from_json(b"\"\xff\"", 9), Err(BodyError::Json(_))));
}

proptest! {
    #[test]
    fn the_parser_does_not_panic_on_any_body(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Push::from_json(&body, CIPHERTEXT_BYTES_MAX);
    }

    #[test]
    fn the_parser_does_not_panic_on_json_tokens(body in r#"(\{|\}|\[|\]|:|,|"(operations|recordId|baseVersion|ciphertext|deleted|epoch|aGk=|)"|null|true|1|-1|1\.5){0,30}"#) {
        let _ = parse(&body);
    }
}
