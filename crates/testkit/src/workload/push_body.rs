//! The body of a push.

use std::fmt::Write as _;

use super::PushRequest;

/// Builds the body of a push piece by piece: if a test sends more than its server can take, the client's
/// own cost should be small.
pub(super) fn push_body(push: &PushRequest<'_>) -> String {
    let mut body = String::from(r#"{"operations":["#);
    // Writing to memory cannot fail.
    for (number, operation) in push.operations.iter().enumerate() {
        let separator = if number == 0 { "" } else { "," };
        let id = serde_json::Value::from(operation.record_id.as_str());
        let base = operation.base_version.map_or("null".to_owned(), |base| base.get().to_string());
        let _ = write!(
            body,
            r#"{separator}{{"recordId":{id},"baseVersion":{base},"deleted":{},"ciphertext":""#,
            operation.deleted,
        );
        base64_simd::STANDARD.encode_append(operation.ciphertext.as_bytes(), &mut body);
        body.push_str(r#""}"#);
    }
    body.push(']');
    if !push.guards.is_empty() {
        body.push_str(r#","guards":["#);
        for (number, guard) in push.guards.iter().enumerate() {
            let separator = if number == 0 { "" } else { "," };
            let id = serde_json::Value::from(guard.record_id.as_str());
            let version = guard.version.get();
            let _ = write!(body, r#"{separator}{{"recordId":{id},"version":{version}}}"#);
        }
        body.push(']');
    }
    if let Some(epoch) = push.epoch {
        let _ = write!(body, r#","epoch":{}"#, serde_json::Value::from(epoch));
    }
    body.push('}');
    body
}
