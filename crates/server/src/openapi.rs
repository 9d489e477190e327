//! The parts of the OpenAPI document that no route declares: its head, the schemas of request bodies,
//! and what makes generated clients precise.
//!
//! Integers have no `format`. All of them are exact in JavaScript, but generators turn `int64` into
//! `BigInt`, which JSON cannot represent.

use utoipa::{
    Modify, OpenApi, ToSchema,
    openapi::{
        Object, ObjectBuilder, PathItem, Ref, RefOr, Schema, Type,
        extensions::Extensions,
        path::Operation,
        schema::AllOfBuilder,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use crate::error::CODES;

/// The schema of every failure.
pub(crate) const FAILURE: &str = "#/components/schemas/Failure";

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
    /// Conditions on records that the push does not write, at most 10: nothing is written unless all hold.
    #[schema(required = false, max_items = 10)]
    guards: Option<Vec<GuardRequest>>,
    /// The `epoch` of an earlier response. The server returns 410 if the vault's history has another
    /// epoch. With an epoch, a base version on an unknown record is a conflict.
    #[schema(required = false, min_length = 1, max_length = 64)]
    epoch: Option<String>,
    /// The time up to which the client knows every deletion. The server returns 410 if tombstones were
    /// removed since.
    #[schema(required = false, format = DateTime, example = "2024-01-15T10:30:00.000Z")]
    since: Option<String>,
}

// Only for the document: `vaultsync_protocol::Pull` parses bodies.
/// A request for one page of changes.
#[derive(ToSchema)]
#[schema(as = PullRequest, example = json!({ "cursor": "2024-01-15T10:30:00.000Z", "limit": 100 }))]
#[expect(dead_code, reason = "its fields are read by the derive")]
pub(crate) struct PullRequest {
    /// Returns only records with a later `updated_at`: an RFC 3339 date and time with an offset. Without a cursor the
    /// page begins at the start.
    #[schema(required = false, format = DateTime)]
    cursor: Option<String>,
    /// The maximum number of records in the page; 100 by default.
    #[schema(required = false, minimum = 1, maximum = 100)]
    limit: usize,
    /// Seconds to wait for a change if the page is empty.
    #[schema(required = false, minimum = 0, maximum = 55)]
    wait: usize,
    /// The `epoch` of an earlier response. The server returns 410 if the vault's history has another epoch.
    #[schema(required = false, min_length = 1, max_length = 64)]
    epoch: Option<String>,
    /// The time up to which the client knows every deletion.
    #[schema(required = false, format = DateTime)]
    since: Option<String>,
}

// Only for the document: `vaultsync_protocol::RecordsRequest` parses bodies.
/// A request for records by id.
#[derive(ToSchema)]
#[schema(example = json!({ "recordIds": ["note-1", "note-2"] }))]
#[expect(dead_code, reason = "its fields are read by the derive")]
#[serde(rename_all = "camelCase")]
pub(crate) struct RecordsRequest {
    /// 1 to 100 ids, none twice.
    #[schema(min_items = 1, max_items = 100)]
    record_ids: Vec<String>,
    /// The `epoch` of an earlier response. The server returns 410 if the vault's history has another epoch.
    #[schema(required = false, min_length = 1, max_length = 64)]
    epoch: Option<String>,
}

// Only for the document: `vaultsync_protocol::FoundRecords` serializes itself.
/// Records found by id.
#[derive(ToSchema)]
#[expect(dead_code, reason = "its fields are read by the derive")]
#[serde(rename_all = "camelCase")]
pub(crate) struct FoundRecords {
    /// The records, in the order of the request.
    records: Vec<DigestedRecord>,
    /// Ids that the server has no record of, in the order of the request.
    missing: Vec<String>,
    /// Whether the response is cut: ask again for the ids that are neither in `records` nor in `missing`.
    has_more: bool,
    /// Name of the vault's history; null if nothing was ever pushed.
    #[schema(required = true, example = "8a0f6c3e-1d1b-4c55-9a1e-3f0e2b7c9d10")]
    epoch: Option<String>,
    /// The vault's clock: the latest `updated_at` that it has assigned; null if nothing was ever pushed.
    #[schema(required = true, format = DateTime, example = "2024-01-15T10:30:00.000Z")]
    head: Option<String>,
}

/// A record with the digest of its ciphertext.
#[derive(ToSchema)]
#[expect(dead_code, reason = "its fields are read by the derive")]
struct DigestedRecord {
    /// Id chosen by the client.
    #[schema(rename = "recordId", example = "note-1")]
    record_id: String,
    /// Standard base64 of the last pushed bytes.
    #[schema(content_encoding = "base64", example = "aGVsbG8=")]
    ciphertext: String,
    /// Number of writes to the record.
    #[schema(value_type = usize, minimum = 1, maximum = 9_007_199_254_740_991_i64, example = 1)]
    version: i64,
    /// Whether the record is a tombstone.
    deleted: bool,
    /// Position in the vault's order; each write moves the record to a later one.
    #[schema(format = DateTime, example = "2024-01-15T10:30:00.000Z")]
    updated_at: String,
    /// The first 16 bytes of the SHA-256 of the ciphertext, as 32 hexadecimal digits.
    #[schema(example = "2cf24dba5fb0a30e26e83b2ac5b9e29e")]
    digest: String,
}

/// A condition of a push: a record is at this version.
#[derive(ToSchema)]
#[schema(as = Guard)]
#[expect(dead_code, reason = "its fields are read by the derive")]
#[serde(rename_all = "camelCase")]
struct GuardRequest {
    /// As in an operation.
    #[schema(min_length = 1, max_length = 255, example = "keyring")]
    record_id: String,
    /// The version that the record must have; 0 if the server must not have it.
    #[schema(value_type = usize, minimum = 0, maximum = 9_007_199_254_740_991_i64, example = 3)]
    version: i64,
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
    #[schema(required = true, value_type = Option<usize>, minimum = 0, maximum = 9_007_199_254_740_991_i64)]
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
    servers((url = ".", description = "The server that serves this document.")),
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

/// Adds to every operation what its declaration cannot express.
pub(crate) fn complete(document: &mut utoipa::openapi::OpenApi) {
    for PathItem { get, post, delete, .. } in document.paths.paths.values_mut() {
        for operation in [get, post, delete].into_iter().flatten() {
            // Empty and not absent: the operation needs no token.
            operation.security.get_or_insert_default();
            narrow_codes(operation);
        }
    }
}

/// Replaces the schema of each failure with one that has only the codes of that response.
fn narrow_codes(operation: &mut Operation) {
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        let codes = codes_of(status, &response.description);
        for content in response.content.values_mut() {
            let RefOr::T(content) = content else { continue };
            if matches!(&content.schema, Some(RefOr::Ref(to)) if to.ref_location == FAILURE) {
                content.schema = Some(RefOr::T(failure_with(&codes)));
            }
        }
    }
}

/// The codes of a status that the response's description names; all of them if it names none.
fn codes_of(status: &str, description: &str) -> Vec<&'static str> {
    let all = CODES.iter().find(|(known, _)| known.to_string() == status);
    let all = all.map_or(&[][..], |(_, codes)| codes);
    let is_named = |code: &&&str| description.contains(&format!("`{code}`"));
    let named: Vec<_> = all.iter().filter(is_named).copied().collect();
    if named.is_empty() { all.to_vec() } else { named }
}

fn failure_with(codes: &[&str]) -> Schema {
    let code =
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(codes.iter().copied()));
    let narrowed =
        ObjectBuilder::new().schema_type(Type::Object).property("code", code).required("code");
    AllOfBuilder::new().item(Ref::new(FAILURE)).item(narrowed).build().into()
}

/// The schema of `code` in a failure.
pub(crate) fn any_code() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(CODES.iter().flat_map(|(_, codes)| codes.iter().copied())))
        .description(Some(
            "Identifies the kind of failure for programs. Later versions may add some.",
        ))
        .examples(["invalid_request"])
        .build()
}

/// The schema of `success` in a push that was applied.
pub(crate) fn always_true() -> Object {
    always(true)
}

/// The schema of `success` in a push that was refused.
pub(crate) fn always_false() -> Object {
    always(false)
}

/// A boolean of one value, by which programs tell two responses apart.
fn always(value: bool) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::Boolean)
        .description(Some(format!("Always {value}.")))
        // The builder has no method for this keyword of JSON Schema.
        .extensions(Some(Extensions::from_iter([("const", value)])))
        .build()
}
