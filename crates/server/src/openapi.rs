//! The OpenAPI document, put together from the routes.

use utoipa::{
    Modify, OpenApi, ToSchema,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};

use crate::routes;

// Only for the document: `vaultsync_protocol::Push` reads bodies.
/// A batch of writes, to be applied all or none.
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
    /// At most 100, no record twice.
    #[schema(max_items = 100)]
    operations: Vec<OperationRequest>,
    /// The `epoch` of an earlier answer: 410 where the vault's history is another one. With it, a
    /// base version on an unknown record is a conflict.
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
    /// Canonical standard base64 with padding; empty only where `deleted` is true.
    #[schema(content_encoding = "base64", example = "aGVsbG8=")]
    ciphertext: String,
    /// Whether the write leaves a tombstone.
    deleted: bool,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Vaultsync",
        description = "Moves end-to-end encrypted records between a person's devices.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    paths(
        routes::push::push,
        routes::pull::pull,
        routes::events::events,
        routes::info::info,
        routes::health::healthz,
        routes::health::readyz,
    ),
    tags(
        (name = "sync", description = "What clients call."),
        (name = "operation", description = "What operators and load balancers call."),
    ),
    modifiers(&Bearer),
)]
struct Document;

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

/// The OpenAPI 3.1 document of everything the public address serves.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}
