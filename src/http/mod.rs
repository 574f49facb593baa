//! The HTTP API: one endpoint a file, over a few parts that all of them share.
//!
//! A handler reads its request into domain types, runs one unit or one or two queries, and writes its answer. It holds
//! no SQL and no rules. Refusals are [`problem::Problem`]s, whoever refuses; [`envelope`] surrounds every request.
//!
//! Adding an endpoint: a file with its request type, handler and `#[utoipa::path]`, and its name in the `routes` of its
//! folder. The router and the OpenAPI document both come from there.

pub mod client_address;
pub mod context;
pub mod cors;
pub mod course;
pub mod cursor;
pub mod describe;
pub mod disclosure;
pub mod envelope;
pub mod etag;
pub mod headers;
pub mod idempotency;
pub mod json;
pub mod letters;
pub mod money;
pub mod path;
pub mod position;
pub mod problem;
pub mod query;
pub mod respond;
pub mod retained;
pub mod scope;
pub mod utc;

pub mod api_keys;
pub mod audit;
pub mod auth;
pub mod availability;
pub mod bookings;
pub mod calendar;
pub mod customers;
pub mod domains;
pub mod hijack;
pub mod invitations;
pub mod leads;
pub mod me;
pub mod offerings;
pub mod ops;
pub mod permission_grants;
pub mod permissions;
pub mod platform;
pub mod public;
pub mod reports;
pub mod resources;
pub mod roles;
pub mod schedules;
pub mod settings;
pub mod signup;
pub mod support;
pub mod users;

use serde::Deserialize;
use utoipa::{
    OpenApi, ToSchema,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};
use utoipa_axum::router::OpenApiRouter;

use crate::app::AppState;

/// Every route with its part of the OpenAPI document.
pub fn routes() -> OpenApiRouter<AppState> {
    let mut routes = OpenApiRouter::with_openapi(Document::openapi())
        .merge(resources::routes())
        .merge(offerings::routes())
        .merge(schedules::routes())
        .merge(customers::routes())
        .merge(bookings::routes())
        .merge(availability::routes())
        .merge(calendar::routes())
        .merge(reports::routes())
        .merge(audit::routes())
        .merge(auth::routes())
        .merge(me::routes())
        .merge(platform::routes())
        .merge(users::routes())
        .merge(invitations::routes())
        .merge(signup::routes())
        .merge(roles::routes())
        .merge(permissions::routes())
        .merge(permission_grants::routes())
        .merge(api_keys::routes())
        .merge(domains::routes())
        .merge(settings::routes())
        .merge(public::routes())
        .merge(leads::routes())
        .merge(support::routes())
        .merge(hijack::routes())
        .merge(ops::routes());
    describe::complete(routes.get_openapi_mut());
    routes
}

/// A body that gives at most a reason.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReasonOnly {
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Daybook",
        description = "A multi-tenant booking backend whose event log is the audit trail.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    components(schemas(problem::ProblemBody, problem::FieldProblem, problem::Alternative)),
    security(("bearer" = [])),
    modifiers(&Bearer),
)]
struct Document;

struct Bearer;

impl utoipa::Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// A field of a PATCH that can be set to null: absent, null and a value are three things.
pub(crate) fn nullable<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}
