//! `GET /permissions`

use std::collections::BTreeMap;

use axum::response::Response;
use daybook_domain::permission::{Module, Permissions, Tier};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    auth::routes::ROUTES,
    http::{
        context::SignedIn,
        problem::{ProblemBody, Result},
        respond,
    },
};

/// Who may do what.
#[derive(Debug, Serialize, ToSchema)]
pub struct Matrix {
    /// What each tier may do, highest first.
    tiers: Vec<Bundle>,
    /// What staff with a module may do besides.
    modules: Vec<Bundle>,
    /// The most that a role of the tenant's own may bundle.
    custom_role_ceiling: Vec<String>,
    /// What each route requires: a permission (`… or …` where tenants and the platform call it), `public` or `signed_in`.
    routes: Vec<Route>,
    /// What the caller may do, now.
    own: Vec<String>,
}

/// A bundle of permissions.
#[derive(Debug, Serialize, ToSchema)]
pub struct Bundle {
    /// Whose.
    name: &'static str,
    /// What it allows, as `resource:action:scope`.
    permissions: Vec<String>,
    /// Which tiers it may manage.
    #[serde(skip_serializing_if = "Option::is_none")]
    manages: Option<Vec<&'static str>>,
}

/// What a route requires.
#[derive(Debug, Serialize, ToSchema)]
pub struct Route {
    /// The method.
    method: &'static str,
    /// The path template.
    path: String,
    /// A permission in its least scope, or that of a tenant's callers `or` that of the platform's; `public` or
    /// `signed_in`.
    requires: String,
}

fn texts(permissions: &Permissions) -> Vec<String> {
    permissions.iter().map(|permission| permission.to_string()).collect()
}

/// Who may do what: tiers, modules, and what each route requires. The same matrix that the router asks.
#[utoipa::path(
    get, path = "/api/v1/permissions", tag = "roles", operation_id = "permissions",
    responses(
        (status = 200, body = Matrix),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn list(SignedIn(principal): SignedIn) -> Result<Response> {
    let tiers = Tier::ALL.iter().map(|tier| Bundle {
        name: tier.as_str(),
        permissions: texts(&tier.permissions()),
        manages: Some(
            Tier::ALL.iter().filter(|other| tier.may_manage(**other)).map(|other| other.as_str()).collect(),
        ),
    });
    let modules = Module::ALL.iter().map(|module| Bundle {
        name: module.as_str(),
        permissions: texts(&module.permissions()),
        manages: None,
    });
    let routes: BTreeMap<_, _> = ROUTES
        .iter()
        .map(|(method, path, requirement)| ((*path, *method), requirement.to_string()))
        .collect();
    respond::json(&Matrix {
        tiers: tiers.collect(),
        modules: modules.collect(),
        custom_role_ceiling: texts(&Tier::custom_role_ceiling()),
        routes: routes
            .into_iter()
            .map(|((path, method), requires)| {
                // As the API's description writes it: a parameter that goes on to the end looks like any other there.
                Route { method, path: path.replace("{*", "{"), requires }
            })
            .collect(),
        own: texts(&principal.permissions),
    })
}
