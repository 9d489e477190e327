//! The routes of the public address, one file each.
//!
//! `routes!` declares a route once, for the router and for the OpenAPI document. To add a route,
//! write its handler in a file of its own and add it to [`api`].
//!
//! Not here: admission (`admission`), and what surrounds every route (`layers`).

mod docs;
mod erase;
mod events;
mod export;
mod health;
mod history;
mod info;
mod manifest;
mod pull;
mod push;
mod records;
mod usage;
mod vaults;

use axum::{Router, middleware::from_fn_with_state};
use utoipa::openapi::OpenApi;
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouterExt as _},
    routes,
};

use crate::{
    admission::{admit, admit_probe},
    app::App,
    layers,
    openapi::{base, complete},
};

/// Routes that are charged to the address and refused during overload.
fn api() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(vaults::also_by_name(routes!(push::push)))
        .routes(vaults::also_by_name(routes!(pull::pull, pull::post_pull)))
        .routes(vaults::also_by_name(routes!(records::records)))
        .routes(vaults::also_by_name(routes!(manifest::manifest)))
        .routes(vaults::also_by_name(routes!(usage::usage)))
        .routes(vaults::also_by_name(routes!(history::history)))
        .routes(vaults::also_by_name(routes!(export::export)))
        .routes(vaults::also_by_name(routes!(events::events).map(events::refuse_other_methods)))
        .routes(vaults::also_by_name(routes!(erase::vault)))
        .routes(routes!(erase::account))
        .routes(routes!(vaults::vaults))
        .routes(routes!(info::info))
}

/// Routes that are always answered, like liveness, but only to valid requests.
fn readiness() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(health::readyz))
}

/// Routes that are always answered. They cost nothing, and a load balancer that gets a 429 takes the
/// node out.
fn liveness() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(health::healthz))
}

/// The router of the public address.
pub fn router(app: App) -> Router {
    let served = Router::from(api()).merge(docs::router(&openapi()));
    let served = layers::with_fallbacks(served).layer(from_fn_with_state(app.clone(), admit));
    let readiness = layers::with_method_fallback(readiness().into())
        .layer(from_fn_with_state(app.clone(), admit_probe));
    let liveness = layers::with_method_fallback(liveness().into());
    layers::with_layers(served.merge(readiness).merge(liveness), app)
}

/// The OpenAPI 3.1 document of the public address.
pub fn openapi() -> OpenApi {
    let mut document = base();
    for routes in [api(), readiness(), liveness()] {
        document.merge(routes.into_openapi());
    }
    complete(&mut document);
    document
}
