//! `POST /api-keys`: the key is in the answer, once. Repeating the request makes another key.

use axum::{extract::State, response::Response};
use chrono::{DateTime, Utc};
use daybook_domain::{api_key::HourlyLimit, text::Name};
use daybook_projections::api_keys;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ApiKeyBody;
use crate::{
    app::AppState,
    auth::Principal,
    http::{
        context::CommandContext,
        json::Json,
        position::{self, MinPosition},
        problem::{Code, Problem, ProblemBody, Result},
        respond, roles,
    },
    security_log::SecurityEventKind,
    tenancy::admin::NewApiKey,
};

/// An API key to be issued.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateApiKey {
    /// What it is for.
    name: String,
    /// What it may do, as `resource:action:scope`: at most what its maker has.
    permissions: Vec<String>,
    /// How many calls an hour; left out, as the plan says, which is also the most. A key makes keys for no more than it
    /// has itself.
    calls_per_hour: Option<u32>,
    /// When it stops working by itself; at the latest when the key that makes it does.
    expires_at: Option<DateTime<Utc>>,
    /// Why.
    reason: Option<String>,
}

/// A new API key, with the key itself.
#[derive(Serialize, ToSchema)]
pub struct NewKeyBody {
    /// The key. It is shown only now.
    pub key: String,
    /// What it is.
    #[serde(flatten)]
    pub about: ApiKeyBody,
}

/// Issue an API key. The key itself is in this answer only.
#[utoipa::path(
    post, path = "/api/v1/api-keys", tag = "API keys", operation_id = "create_api_key",
    request_body = CreateApiKey,
    responses(
        (status = 201, body = NewKeyBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn create(
    State(state): State<AppState>,
    context: CommandContext,
    Json { value, .. }: Json<CreateApiKey>,
) -> Result<Response> {
    let call = context.call.clone();
    let principal = &call.caller.principal;
    let plan =
        state.auth().active_tenant(call.caller.tenant).await?.map_or(0, |tenant| tenant.api_calls_per_hour);
    if value.calls_per_hour.is_some_and(|calls| calls > plan) {
        return Err(Problem::new(Code::PlanLimit, format!("The plan allows {plan} calls an hour.")));
    }
    let (hourly, expires_at) = within(principal, plan, value.calls_per_hour, value.expires_at)?;
    let new = NewApiKey {
        name: Name::new(&value.name, "/name")?,
        permissions: roles::permissions(&value.permissions)?,
        held: principal.own.clone(),
        tier: principal.tier,
        hourly,
        expires_at,
        by_operator: false,
    };
    let event = context.security(SecurityEventKind::ApiKeyCreated);
    let metadata = context.metadata(value.reason)?;
    let (unit, issued) = state.admin().key_unit(call.caller.tenant, new, metadata).await?;
    let committed = state.store().execute(&call.schema, unit).await?;
    state.security_log().record(event.detail(format!("key {}", issued.id)));
    let mut tx = position::read(&state, &call, MinPosition(None)).await?;
    let row = api_keys::get(&mut tx, issued.id.0).await?.ok_or_else(Problem::not_found)?;
    tx.release();
    let body = NewKeyBody { key: issued.key.expose_secret().to_owned(), about: row.into() };
    respond::created(&committed, "api-keys", &body)
}

/// The limit and the end of a key, within those of the key that makes it.
fn within(
    maker: &Principal,
    plan: u32,
    calls: Option<u32>,
    expires_at: Option<DateTime<Utc>>,
) -> Result<(HourlyLimit, Option<DateTime<Utc>>)> {
    let hourly = match (calls, maker.calls_per_hour.filter(|own| *own < plan)) {
        (Some(calls), Some(own)) if calls > own => {
            let detail = "the key that makes it may make fewer calls an hour";
            return Err(Problem::field("/calls_per_hour", "above_own", detail));
        }
        (Some(calls), _) | (None, Some(calls)) => HourlyLimit::Calls(calls),
        (None, None) => HourlyLimit::Plan,
    };
    match (expires_at, maker.expires_at) {
        (Some(at), Some(own)) if at > own => {
            let detail = "the key that makes it expires earlier";
            Err(Problem::field("/expires_at", "above_own", detail))
        }
        (at, own) => Ok((hourly, at.or(own))),
    }
}
