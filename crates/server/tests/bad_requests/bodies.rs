//! Request bodies of pushes.

use vaultsync_testkit::{Backend, backends};

use crate::{Target, Want, want};

backends!(
    malformed_json_is_invalid_json,
    json_of_the_wrong_shape_is_an_invalid_request,
    an_epoch_is_1_to_64_bytes_of_text,
    guards_are_an_array_of_at_most_10_objects,
    every_member_of_a_guard_is_required_once_and_typed,
    guards_and_operations_name_each_record_once,
    every_member_is_required_once_and_typed,
    a_record_id_is_bounded,
    a_base_version_is_null_or_a_safe_integer,
    a_ciphertext_is_canonical_standard_base64_with_padding,
    a_batch_names_each_record_once,
    a_batch_has_at_most_100_operations_and_a_response_20_issues,
    one_bad_operation_rejects_the_whole_batch,
);

/// Sends each row of a table as a push.
async fn check_invalid(backend: Backend, rows: &[(&str, &[&str])]) {
    let target = Target::start(backend).await;
    for (body, issues) in rows {
        let want = Want { status: 400, code: "invalid_request", issues };
        target.check(body, target.push().body((*body).to_owned()), want).await;
    }
}

async fn check_one_operation(backend: Backend, rows: &[(&str, &[&str])]) {
    let whole = |(members, issues): &(&str, &[&str])| {
        let issues = issues.iter().map(|member| format!("operations[0].{member}"));
        (format!(r#"{{"operations":[{{{members}}}]}}"#), issues.collect::<Vec<_>>())
    };
    let target = Target::start(backend).await;
    for (body, issues) in rows.iter().map(whole) {
        let issues: Vec<&str> = issues.iter().map(String::as_str).collect();
        let want = Want { status: 400, code: "invalid_request", issues: &issues };
        target.check(&body, target.push().body(body.clone()), want).await;
    }
}

async fn malformed_json_is_invalid_json(backend: Backend) {
    let target = Target::start(backend).await;
    let nested = |levels: usize| {
        format!(r#"{{"operations":[],"x":{}{}}}"#, "[".repeat(levels), "]".repeat(levels))
    };
    let good = r#"{"operations":[{"recordId":"n","baseVersion":null,"ciphertext":"aGk=","deleted":false}]}"#;
    let texts = [
        String::new(),
        " \r\n\t".to_owned(),
        "{".to_owned(),
        good[..good.len() - 1].to_owned(),
        format!("{good}x"),
        format!("{good}{good}"),
        format!("\u{feff}{good}"),
        good.replace('"', "'"),
        good.replace("]}", "],}"),
        good.replace("null", "NaN"),
        good.replace("null", "undefined"),
        good.replace("null", "01"),
        good.replace("null", "+1"),
        good.replace("null", "1."),
        good.replace("null", "1e999"),
        good.replace("null", "/* none */ null"),
        good.replace("\"n\"", "\"\n\""),
        good.replace("\"n\"", r#""\x6e""#),
        good.replace("\"n\"", r#""\ud800""#),
        good.replace("\"n\"", r#""\udc00\ud800""#),
        good.replace("recordId", r"record\uZZZZ"),
        "operations=%5B%5D".to_owned(),
        "nul".to_owned(),
        nested(16),
        nested(100_000),
        format!("{}{good}", "{\"x\":".repeat(50_000)),
        "[".repeat(1_000_000),
    ];
    for text in texts {
        let what = text.clone();
        target.check(&what, target.push().body(text), want(400, "invalid_json")).await;
    }
    let bytes: [&[u8]; 5] = [
        b"\xff\xfe{\0}\0",
        b"{\"operations\":[{\"recordId\":\"\xff\"}]}",
        b"{\"operations\":[{\"recordId\":\"\xc0\xaf\"}]}",
        b"{\"operations\":[{\"recordId\":\"\xed\xa0\x80\"}]}",
        b"\x1f\x8b\x08\0\0\0\0\0",
    ];
    for bytes in bytes {
        let what = bytes.escape_ascii().to_string();
        target.check(&what, target.push().body(bytes), want(400, "invalid_json")).await;
    }
}

async fn json_of_the_wrong_shape_is_an_invalid_request(backend: Backend) {
    check_invalid(
        backend,
        &[
            ("null", &[""]),
            ("true", &[""]),
            ("5", &[""]),
            (r#""operations""#, &[""]),
            ("[]", &[""]),
            (r#"[{"operations":[]}]"#, &[""]),
            ("{}", &["operations"]),
            (r#"{"Operations":[]}"#, &["operations"]),
            (r#"{"operations":null}"#, &["operations"]),
            (r#"{"operations":{}}"#, &["operations"]),
            (r#"{"operations":"[]"}"#, &["operations"]),
            (r#"{"operations":[],"operations":[]}"#, &["operations"]),
            (r#"{"operations":[],"operat\u0069ons":[]}"#, &["operations"]),
            (r#"{"operations":[null]}"#, &["operations[0]"]),
            (r#"{"operations":[[],"x",1]}"#, &["operations[0]", "operations[1]", "operations[2]"]),
        ],
    )
    .await;
}

async fn an_epoch_is_1_to_64_bytes_of_text(backend: Backend) {
    let long = format!(r#"{{"operations":[],"epoch":"{}"}}"#, "e".repeat(65));
    let long_in_two_bytes = format!(r#"{{"operations":[],"epoch":"{}"}}"#, "é".repeat(33));
    check_invalid(
        backend,
        &[
            (r#"{"operations":[],"epoch":""}"#, &["epoch"]),
            (r#"{"operations":[],"epoch":1}"#, &["epoch"]),
            (r#"{"operations":[],"epoch":true}"#, &["epoch"]),
            (r#"{"operations":[],"epoch":["e"]}"#, &["epoch"]),
            (r#"{"operations":[],"epoch":{}}"#, &["epoch"]),
            (r#"{"epoch":"e","operations":[],"epoch":"e"}"#, &["epoch"]),
            (&long, &["epoch"]),
            (&long_in_two_bytes, &["epoch"]),
        ],
    )
    .await;
}

async fn guards_are_an_array_of_at_most_10_objects(backend: Backend) {
    let guards = |count: usize| {
        let guards: Vec<_> =
            (0..count).map(|n| format!(r#"{{"recordId":"g{n}","version":1}}"#)).collect();
        format!(r#"{{"operations":[],"guards":[{}]}}"#, guards.join(","))
    };
    check_invalid(
        backend,
        &[
            (r#"{"operations":[],"guards":{}}"#, &["guards"]),
            (r#"{"operations":[],"guards":"key"}"#, &["guards"]),
            (r#"{"operations":[],"guards":1}"#, &["guards"]),
            (r#"{"operations":[],"guards":true}"#, &["guards"]),
            (r#"{"guards":[],"operations":[],"guards":[]}"#, &["guards"]),
            (r#"{"operations":[],"guards":[null]}"#, &["guards[0]"]),
            (
                r#"{"operations":[],"guards":["key",[],1]}"#,
                &["guards[0]", "guards[1]", "guards[2]"],
            ),
            (r#"{"guards":[]}"#, &["operations"]),
            (&guards(11), &["guards"]),
            (&guards(1), &["guards"]),
            (&guards(500), &["guards"]),
        ],
    )
    .await;
}

async fn every_member_of_a_guard_is_required_once_and_typed(backend: Backend) {
    let rows: [(&str, &[&str]); 16] = [
        ("", &["recordId", "version"]),
        (r#""recordid":"g","Version":1"#, &["recordId", "version"]),
        (r#""recordId":null,"version":null"#, &["recordId", "version"]),
        (r#""recordId":"g""#, &["version"]),
        (r#""version":1"#, &["recordId"]),
        (r#""recordId":"","version":1"#, &["recordId"]),
        (r#""recordId":"a\u0000","version":1"#, &["recordId"]),
        (r#""recordId":7,"version":1"#, &["recordId"]),
        (r#""recordId":"g","recordId":"g","version":1"#, &["recordId"]),
        (r#""recordId":"g","version":1,"version":1"#, &["version"]),
        (r#""recordId":"g","version":-1"#, &["version"]),
        (r#""recordId":"g","version":1.5"#, &["version"]),
        (r#""recordId":"g","version":"1""#, &["version"]),
        (r#""recordId":"g","version":9007199254740992"#, &["version"]),
        (r#""recordId":"g","version":[]"#, &["version"]),
        (r#""recordId":"g","version":true"#, &["version"]),
    ];
    let whole = |(members, issues): &(&str, &[&str])| {
        let issues = issues.iter().map(|member| format!("guards[0].{member}"));
        let body = format!(r#"{{"operations":[],"guards":[{{{members}}}]}}"#);
        (body, issues.collect::<Vec<_>>())
    };
    let rows: Vec<_> = rows.iter().map(whole).collect();
    let target = Target::start(backend).await;
    for (body, issues) in &rows {
        let issues: Vec<&str> = issues.iter().map(String::as_str).collect();
        let want = Want { status: 400, code: "invalid_request", issues: &issues };
        target.check(body, target.push().body(body.clone()), want).await;
    }
}

async fn guards_and_operations_name_each_record_once(backend: Backend) {
    let operation = r#"{"recordId":"n","baseVersion":null,"ciphertext":"aGk=","deleted":false}"#;
    let body = |guards: &str| format!(r#"{{"operations":[{operation}],"guards":[{guards}]}}"#);
    let guarded = body(r#"{"recordId":"g","version":1},{"recordId":"n","version":0}"#);
    let twice = body(r#"{"recordId":"g","version":1},{"recordId":"g","version":1}"#);
    check_invalid(
        backend,
        &[(&guarded, &["guards[1].recordId"]), (&twice, &["guards[1].recordId"])],
    )
    .await;
}

async fn every_member_is_required_once_and_typed(backend: Backend) {
    check_one_operation(backend, &[
        ("", &["recordId", "baseVersion", "ciphertext", "deleted"]),
        (
            r#""RecordId":"n","base_version":null,"cipherText":"aGk=","DELETED":false"#,
            &["recordId", "baseVersion", "ciphertext", "deleted"],
        ),
        (
            r#""recordId":1,"baseVersion":"1","ciphertext":{},"deleted":"no""#,
            &["recordId", "baseVersion", "ciphertext", "deleted"],
        ),
        (
            r#""recordId":null,"baseVersion":[],"ciphertext":null,"deleted":null"#,
            &["recordId", "baseVersion", "ciphertext", "deleted"],
        ),
        (r#""baseVersion":null,"ciphertext":"aGk=","deleted":false"#, &["recordId"]),
        (r#""recordId":"n","ciphertext":"aGk=","deleted":false"#, &["baseVersion"]),
        (r#""recordId":"n","baseVersion":null,"deleted":false"#, &["ciphertext"]),
        (r#""recordId":"n","baseVersion":null,"ciphertext":"aGk=""#, &["deleted"]),
        (r#""recordId":"n","baseVersion":null,"ciphertext":"aGk=","deleted":0"#, &["deleted"]),
        (
            r#""recordId":"n","baseVersion":null,"ciphertext":"aGk=","deleted":"false""#,
            &["deleted"],
        ),
        (
            r#""recordId":"n","recordId":"n","baseVersion":null,"ciphertext":"aGk=","deleted":true"#,
            &["recordId"],
        ),
        (
            r#""recordId":"n","baseVersion":null,"ciphertext":"aGk=","deleted":true,"d\u0065leted":true"#,
            &["deleted"],
        ),
        (
            r#""deleted":1,"ciphertext":1,"baseVersion":true,"recordId":true"#,
            &["recordId", "baseVersion", "ciphertext", "deleted"],
        ),
    ])
    .await;
}

async fn a_record_id_is_bounded(backend: Backend) {
    let long = "x".repeat(256);
    let long_in_two_bytes = "é".repeat(128);
    let rows =
        ["", r"\u0000", r"a\nb", r"\t", r"\u007f", r"\u0085", r"\u009f", &long, &long_in_two_bytes]
            .map(|id| {
                format!(
                    r#""recordId":"{id}","baseVersion":null,"ciphertext":"aGk=","deleted":false"#
                )
            });
    let rows: Vec<(&str, &[&str])> =
        rows.iter().map(|row| (row.as_str(), &["recordId"][..])).collect();
    check_one_operation(backend, &rows).await;
}

async fn a_base_version_is_null_or_a_safe_integer(backend: Backend) {
    let rows = [
        "-1",
        "-9007199254740991",
        "9007199254740992",
        "9007199254740993.0",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "100000000000000000000000",
        "0.5",
        "1.0000001",
        "1e300",
        "-0.5",
        "\"1\"",
        "\"null\"",
        "true",
        "false",
        "[]",
        "[1]",
        "{}",
    ]
    .map(|base| {
        format!(r#""recordId":"n","baseVersion":{base},"ciphertext":"aGk=","deleted":false"#)
    });
    let rows: Vec<(&str, &[&str])> =
        rows.iter().map(|row| (row.as_str(), &["baseVersion"][..])).collect();
    check_one_operation(backend, &rows).await;
}

async fn a_ciphertext_is_canonical_standard_base64_with_padding(backend: Backend) {
    let rows = [
        "",
        "=",
        "==",
        "====",
        "a",
        "aG",
        "aGk",
        "aGk==",
        "aGl=",
        "aB==",
        "aGk=aGk=",
        "a-_=",
        "aGk=\\n",
        " aGk=",
        "aG k=",
        "aGk%3D",
        "é",
        "\\u0000",
        "data:;base64,aGk=",
    ]
    .map(|text| {
        format!(r#""recordId":"n","baseVersion":null,"ciphertext":"{text}","deleted":false"#)
    });
    let rows: Vec<(&str, &[&str])> =
        rows.iter().map(|row| (row.as_str(), &["ciphertext"][..])).collect();
    check_one_operation(backend, &rows).await;
}

async fn a_batch_names_each_record_once(backend: Backend) {
    let op = |id: &str| {
        format!(r#"{{"recordId":"{id}","baseVersion":null,"ciphertext":"aGk=","deleted":false}}"#)
    };
    let batch = |ids: &[&str]| {
        let operations: Vec<String> = ids.iter().map(|id| op(id)).collect();
        format!(r#"{{"operations":[{}]}}"#, operations.join(","))
    };
    let identical = batch(&["n", "n"]);
    let escaped = batch(&["n", "m", "\\u006e"]);
    let several = batch(&["n", "m", "n", "m", "n"]);
    check_invalid(
        backend,
        &[
            (&identical, &["operations[1].recordId"]),
            (&escaped, &["operations[2].recordId"]),
            (
                &several,
                &["operations[2].recordId", "operations[3].recordId", "operations[4].recordId"],
            ),
        ],
    )
    .await;
}

async fn a_batch_has_at_most_100_operations_and_a_response_20_issues(backend: Backend) {
    let op = |n: usize| {
        format!(r#"{{"recordId":"n{n}","baseVersion":null,"ciphertext":"aGk=","deleted":false}}"#)
    };
    let batch = |count: usize| {
        format!(r#"{{"operations":[{}]}}"#, (0..count).map(op).collect::<Vec<_>>().join(","))
    };
    let (one_more, many) = (batch(101), batch(5000));
    let nulls = format!(r#"{{"operations":[{}null]}}"#, "null,".repeat(100_000));
    let empty = format!(r#"{{"operations":[{}{{}}]}}"#, "{},".repeat(99));
    let first_twenty = |first: &str, each: &dyn Fn(usize) -> Vec<String>| {
        let mut paths: Vec<String> = vec![first.to_owned()];
        paths.extend((0..20).flat_map(each));
        paths.retain(|path| !path.is_empty());
        paths.truncate(20);
        paths
    };
    let of_nulls = first_twenty("operations", &|n| vec![format!("operations[{n}]")]);
    let members = ["recordId", "baseVersion", "ciphertext", "deleted"];
    let of_empty =
        first_twenty("", &|n| members.map(|member| format!("operations[{n}].{member}")).into());
    let of_nulls: Vec<&str> = of_nulls.iter().map(String::as_str).collect();
    let of_empty: Vec<&str> = of_empty.iter().map(String::as_str).collect();
    check_invalid(
        backend,
        &[
            (&one_more, &["operations"]),
            (&many, &["operations"]),
            (&nulls, &of_nulls),
            (&empty, &of_empty),
        ],
    )
    .await;
}

async fn one_bad_operation_rejects_the_whole_batch(backend: Backend) {
    let good = |id: &str| {
        format!(r#"{{"recordId":"{id}","baseVersion":null,"ciphertext":"aGk=","deleted":false}}"#)
    };
    let bad = r#"{"recordId":"x","baseVersion":-1,"ciphertext":"aGk=","deleted":false}"#;
    let first = format!(r#"{{"operations":[{bad},{},{}]}}"#, good("m"), good("n"));
    let last = format!(r#"{{"operations":[{},{},{bad}]}}"#, good("m"), good("n"));
    check_invalid(
        backend,
        &[(&first, &["operations[0].baseVersion"]), (&last, &["operations[2].baseVersion"])],
    )
    .await;
}
