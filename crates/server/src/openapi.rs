//! The parts of the OpenAPI document that no route declares: its head, and the schemas of request
//! bodies.

use utoipa::{
    Modify, OpenApi, ToSchema,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};

// Only for the document: `vaultsync_protocol::Push` parses bodies.
/// A batch of writes, applied as a whole or not at all.
#[derive(ToSchema)]
#[schema(
    as = PushRequest,
    example = json!({
        "operations": [
            { "recordId": "note-1", "baseVersion": null, "ciphertext": "aGVsbG8=", "deleted": false },
            { "recordId": "note-2", "baseVersion": 3, "ciphertext": "", "deleted": true },
        ],
    }),
)]
#[expect(dead_code, reason = "its fields are read by the derive")]
pub(crate) struct PushRequest {
    /// At most 100, each for another record.
    #[schema(max_items = 100)]
    operations: Vec<OperationRequest>,
    /// The `epoch` of an earlier response. The server returns 410 if the vault's history has another
    /// epoch. With an epoch, a base version on an unknown record is a conflict.
    #[schema(required = false, min_length = 1, max_length = 64)]
    epoch: Option<String>,
}

/// One write of a push.
#[derive(ToSchema)]
#[schema(as = Operation)]
#[expect(dead_code, reason = "its fields are read by the derive")]
#[serde(rename_all = "camelCase")]
struct OperationRequest {
    /// 1 to 255 bytes of UTF-8 without control characters.
    #[schema(min_length = 1, max_length = 255, example = "note-1")]
    record_id: String,
    /// The version that was edited; null for a new record.
    #[schema(required = true, minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    base_version: Option<i64>,
    /// Canonical standard base64 with padding. It may be empty only if `deleted` is true.
    #[schema(content_encoding = "base64", example = "aGVsbG8=")]
    ciphertext: String,
    /// Whether the write leaves a tombstone.
    deleted: bool,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Vaultsync",
        description = "Syncs end-to-end encrypted records between the devices of a user.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    tags(
        (name = "sync", description = "For clients."),
        (name = "operation", description = "For operators and load balancers."),
    ),
    modifiers(&Bearer),
)]
struct Base;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("bearer", SecurityScheme::Http(bearer));
    }
}

/// The document without paths.
pub(crate) fn base() -> utoipa::openapi::OpenApi {
    Base::openapi()
}
