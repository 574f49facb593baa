//! `GET /auth/check`: whether an access token is good, for a gateway that asks before it lets a request through.

use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::http::{
    context::SignedIn,
    problem::{Problem, ProblemBody, Result},
    respond,
};

/// Whose the token is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Checked {
    /// The user.
    user_id: Uuid,
    /// Their tenant; null for the platform's own people.
    tenant_id: Option<Uuid>,
    /// Their tier, now.
    role: &'static str,
}

/// Whether the access token is good, now. Costs next to nothing.
#[utoipa::path(
    get, path = "/api/v1/auth/check", tag = "auth", operation_id = "check_token",
    responses(
        (status = 200, body = Checked),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn check(SignedIn(principal): SignedIn) -> Result<Response> {
    let Some(user) = principal.account() else {
        return Err(Problem::no_account());
    };
    respond::json(&Checked {
        user_id: user.0,
        tenant_id: principal.tenant.map(|tenant| tenant.0),
        role: principal.tier.as_str(),
    })
}
