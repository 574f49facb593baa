//! `POST /support/requests`

use axum::{extract::State, response::Response};
use daybook_domain::{
    Email, SupportRequestId, TenantId, permission::Tier, support_request::SupportRequestCommand, text::Reason,
};
use daybook_projections::{
    Schema,
    users::{self, UserFilter, UserRow},
};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{SupportRequestBody, copied};
use crate::{
    app::AppState,
    eventstore::{Attached, Command},
    http::{
        context::PlatformCommand,
        json::Json,
        letters,
        problem::{Problem, ProblemBody, Result},
        respond,
    },
    mail::templates::{self, Addressee},
    security_log::SecurityEventKind,
    tenancy::{Access, TenantTx},
};

/// The most people of a tenant who are written to.
const MOST_LETTERS: usize = 20;

/// What is asked of which tenant.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestSupport {
    /// The tenant's slug.
    tenant: String,
    /// Why. The tenant sees it, and it stays in its log: name nobody.
    #[schema(min_length = 1)]
    reason: String,
    /// How long the window is to be, from its approval on: 1 to 30.
    #[schema(minimum = 1, maximum = 30)]
    minutes: u32,
}

/// Ask a tenant to be let in. Its owners and managers are told by mail, and one of them answers within 24 hours, or the
/// request lapses. It is in the tenant's own log.
#[utoipa::path(
    post, path = "/api/v1/support/requests", tag = "support", operation_id = "request_support",
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeats are answered, not done again")),
    request_body = RequestSupport,
    responses(
        (status = 201, body = SupportRequestBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn create(
    State(state): State<AppState>,
    context: PlatformCommand,
    Json { value, hash }: Json<RequestSupport>,
) -> Result<Response> {
    let RequestSupport { tenant: slug, reason, minutes } = value;
    // Of a key the gate lets nobody of the platform's in.
    let (requested_by, _) = context.principal.session().ok_or_else(Problem::not_found)?;
    let limits = state.limits();
    limits.check(&limits.policies().support_request, &requested_by.to_string()).await?;
    let why = Reason::new(&reason, "/reason")?;
    let tenant = match state.tenant_of_slug(&slug).await? {
        Some(tenant) if state.auth().active_tenant(tenant).await?.is_some() => tenant,
        _ => return Err(Problem::not_found()),
    };
    let schema = Schema::tenant(tenant);
    let id = SupportRequestId(Uuid::now_v7());
    let letters = letters(&state, tenant, id, &why, minutes).await?;
    let command = SupportRequestCommand::Request { requested_by, reason: why, minutes };
    let command = Command::create(id, command).expecting(context.if_match.expected());
    let line =
        context.security(SecurityEventKind::SupportRequested, tenant).detail(format!("support_request:{id}"));
    let mut unit = context.unit(vec![command], Some(reason), hash)?;
    unit.attached = letters;
    let committed = state.store().execute(&schema, unit).await?;
    if !committed.replayed {
        state.security_log().record(line);
    }
    state.mailer().wake(&schema);
    copied(&state, tenant).await;
    respond::created(&committed, "support/requests", &SupportRequestBody::of(&committed, Some(slug))?)
}

/// A letter to each of those who may answer; owners first.
async fn letters(
    state: &AppState,
    tenant: TenantId,
    id: SupportRequestId,
    reason: &Reason,
    minutes: u32,
) -> Result<Vec<Attached>> {
    let house = letters::house(state, Some(tenant)).await?;
    let window = std::time::Duration::from_secs(u64::from(minutes) * 60);
    let mut attached = Vec::new();
    for person in answerers(state, tenant).await? {
        let Some(email) = person.email.expose().and_then(|email| Email::new(email, "/email").ok()) else {
            continue;
        };
        let to = Addressee { email, user: Some(person.id) };
        let letter = templates::support_requested(to, &house, id.0, reason.as_str(), window);
        attached.push(letters::attach(state, Some(tenant), letter)?);
    }
    Ok(attached)
}

async fn answerers(state: &AppState, tenant: TenantId) -> Result<Vec<UserRow>> {
    let mut people = Vec::new();
    let pool = state.store().database().app();
    let mut tx = TenantTx::begin(pool, &Schema::tenant(tenant), Access::Read).await?;
    for tier in [Tier::TenantOwner, Tier::TenantManager] {
        let filter = UserFilter {
            status: Some("active".into()),
            tier: Some(tier.as_str().into()),
            ..UserFilter::default()
        };
        let room = MOST_LETTERS - people.len();
        people.extend(users::list(&mut tx, &filter, None, i64::try_from(room).unwrap_or(0)).await?);
    }
    tx.release();
    Ok(people)
}
