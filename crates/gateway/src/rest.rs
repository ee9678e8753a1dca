//! REST: the public router and the operators'.

mod account;
mod admin;
mod admin_intake;
mod cluster;
mod engine_version;
mod market;
mod orders;
mod region;
pub(crate) mod validate;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wire::errors::Refusal;

use crate::failure::Failure;
use crate::gateway::{Gateway, Shared};
use crate::{docs, incoming, ws};

impl Gateway {
    /// The public API, with its description.
    pub fn public_router(&self) -> Router {
        let (router, openapi) = public_routes().split_for_parts();
        self.finish(router.route("/v1/ws", get(ws::upgrade)), openapi)
    }

    /// The operators' API, with its description.
    pub fn admin_router(&self) -> Router {
        let (router, openapi) = admin_routes().split_for_parts();
        self.finish(router, openapi)
    }

    fn finish(&self, router: Router<Arc<Shared>>, openapi: OpenApi) -> Router {
        router
            .merge(docs::routes(&openapi))
            .fallback(|| async { Failure::new(Refusal::RouteUnknown) })
            .method_not_allowed_fallback(|| async { Failure::new(Refusal::MethodUnsupported) })
            .layer(from_fn_with_state(Arc::clone(&self.0), incoming::limit))
            .with_state(Arc::clone(&self.0))
    }
}

/// The description of the public API, OpenAPI 3.1.
pub fn public_openapi() -> OpenApi {
    public_routes().split_for_parts().1
}

/// The description of the operators' API, OpenAPI 3.1.
pub fn admin_openapi() -> OpenApi {
    admin_routes().split_for_parts().1
}

fn public_routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::with_openapi(docs::public_description())
        .routes(routes!(market::time))
        .routes(routes!(market::instruments))
        .routes(routes!(market::instrument))
        .routes(routes!(market::book))
        .routes(routes!(market::trades))
        .routes(routes!(orders::place, orders::list, orders::cancel_all))
        .routes(routes!(orders::batch))
        .routes(routes!(orders::get, orders::replace, orders::cancel))
        .routes(routes!(
            orders::get_by_client_id,
            orders::replace_by_client_id,
            orders::cancel_by_client_id
        ))
        .routes(routes!(account::cancel_after))
        .routes(routes!(account::fills))
        .routes(routes!(account::balances))
        .routes(routes!(account::limits))
}

fn admin_routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::with_openapi(docs::admin_description())
        .routes(routes!(admin::create_asset, admin::assets))
        .routes(routes!(admin::create_instrument, admin::instruments))
        .routes(routes!(admin::set_instrument_rules))
        .routes(routes!(admin::set_instrument_status))
        .routes(routes!(admin::create_account, admin::accounts))
        .routes(routes!(admin::set_account_status))
        .routes(routes!(admin::balances))
        .routes(routes!(admin::create_key, admin::keys))
        .routes(routes!(admin::revoke_key))
        .routes(routes!(admin::deposit))
        .routes(routes!(admin::withdraw))
        .routes(routes!(admin::cancel_all))
        .routes(routes!(admin::set_rules, admin::rules))
        .routes(routes!(engine_version::status, engine_version::set))
        .routes(routes!(cluster::status))
        .routes(routes!(cluster::add_member))
        .routes(routes!(cluster::remove_member))
        .routes(routes!(cluster::transfer_leadership))
        .routes(routes!(region::status))
        .routes(routes!(region::switch_over))
        .routes(routes!(region::promote))
        .routes(routes!(region::demote))
        .routes(routes!(market::time))
}
