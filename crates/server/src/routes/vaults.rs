//! `GET /api/sync/vaults`, and the routes of named vaults.

use axum::{extract::State, response::Response};
use serde::Serialize;
use utoipa::{
    ToSchema,
    openapi::{
        ContentBuilder, ObjectBuilder, PathItem, Ref, RefOr, Required, Response as ResponseObject,
        ResponseBuilder, Type,
        path::{ParameterBuilder, ParameterIn},
    },
};
use utoipa_axum::router::UtoipaMethodRouter;
use vaultsync_protocol::{VaultName, VaultSummary};

use crate::{
    app::App,
    error::{ApiError, Failure},
    extract::{Caller, NAMED_VAULTS, VAULT_PARAMETER},
    openapi::FAILURE,
    read_meter::in_time,
    response,
};

/// The prefix of the paths of the default vault.
const DEFAULT_VAULT: &str = "/api/sync/";

/// The vaults of a user.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Vaults {
    /// The default vault first, then the named ones by name. A vault exists from its first push on.
    vaults: Vec<VaultSummary>,
}

/// Lists the vaults of the user.
///
/// Each vault has records, a cursor and an epoch of its own. The paths of a named vault begin with
/// `/api/sync/vaults/NAME/`.
#[utoipa::path(
    get,
    path = "/api/sync/vaults",
    tag = "sync",
    security(("bearer" = [])),
    responses(
        (status = 200, description = "The vaults.", body = Vaults),
        (status = 401, description = "The token is missing or not accepted.", body = Failure, headers(("WWW-Authenticate" = String, description = "The challenge, as defined by RFC 6750."))),
        (status = 403, description = "`forbidden`.", body = Failure),
        (status = 429, description = "`rate_limited`.", body = Failure, headers(("Retry-After" = usize, description = "Seconds."))),
        (status = 431, description = "`headers_too_large`.", body = Failure),
        (status = 500, description = "`internal`.", body = Failure),
        (status = 503, description = "`unavailable`.", body = Failure, headers(("Retry-After" = usize, description = "Seconds."))),
    ),
)]
pub(super) async fn vaults(
    State(app): State<App>,
    Caller { vault, .. }: Caller,
) -> Result<Response, ApiError> {
    let vaults = in_time(&app, app.store.vaults(&vault)).await?;
    let response = response::ok(&Vaults { vaults });
    app.rates.debit_user(vault.user(), response::body_bytes(&response));
    Ok(response)
}

/// Declares a route of the default vault for named vaults, too. The handler's [`Caller`] has the vault.
///
/// The name is part of the path and no query parameter, because servers that know no names ignore a parameter,
/// and would use the default vault.
pub(super) fn also_by_name(
    (schemas, mut paths, methods): UtoipaMethodRouter<App>,
) -> UtoipaMethodRouter<App> {
    let named: Vec<_> = paths
        .paths
        .iter()
        .filter_map(|(path, item)| {
            let named = match path.strip_prefix(DEFAULT_VAULT)? {
                // The vault itself.
                "vault" => format!("{NAMED_VAULTS}{{{VAULT_PARAMETER}}}"),
                route => format!("{NAMED_VAULTS}{{{VAULT_PARAMETER}}}/{route}"),
            };
            Some((named, in_named_vault(item)))
        })
        .collect();
    paths.paths.extend(named);
    (schemas, paths, methods)
}

fn in_named_vault(item: &PathItem) -> PathItem {
    let name = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(VaultName::BYTES_MAX))
        .pattern(Some("^[a-z0-9][a-z0-9._-]*$"))
        .examples(["notes"]);
    let parameter = ParameterBuilder::new()
        .name(VAULT_PARAMETER)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some("Name of the vault. It exists from its first push on."))
        .schema(Some(name));
    let mut named = item.clone();
    let parameter = parameter.build();
    for operation in [&mut named.get, &mut named.post, &mut named.delete].into_iter().flatten() {
        // Ids of operations are unique in a document.
        operation.operation_id = operation.operation_id.take().map(|id| format!("{id}_in_vault"));
        operation.parameters.get_or_insert_default().insert(0, RefOr::T(parameter.clone()));
        // The name may be invalid, even if nothing else of the request can be.
        let bad_request = operation.responses.responses.entry("400".to_owned());
        bad_request.or_insert_with(|| RefOr::T(invalid_name()));
    }
    named
}

fn invalid_name() -> ResponseObject {
    let failure = ContentBuilder::new().schema(Some(Ref::new(FAILURE))).build();
    ResponseBuilder::new()
        .description("`invalid_request`.")
        .content("application/json", failure)
        .build()
}
