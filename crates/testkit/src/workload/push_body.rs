//! The body of a push.

use std::fmt::Write as _;

use vaultsync_protocol::Operation;

/// Builds the body of a push piece by piece: if a test sends more than its server can take, the client's
/// own cost should be small.
pub(super) fn push_body(operations: &[Operation]) -> String {
    let mut body = String::from(r#"{"operations":["#);
    for (number, operation) in operations.iter().enumerate() {
        let separator = if number == 0 { "" } else { "," };
        let id = serde_json::Value::from(operation.record_id.as_str());
        let base = operation.base_version.map_or("null".to_owned(), |base| base.get().to_string());
        // Writing to memory cannot fail.
        let _ = write!(
            body,
            r#"{separator}{{"recordId":{id},"baseVersion":{base},"deleted":{},"ciphertext":""#,
            operation.deleted,
        );
        base64_simd::STANDARD.encode_append(operation.ciphertext.as_bytes(), &mut body);
        body.push_str(r#""}"#);
    }
    body.push_str("]}");
    body
}
