//! `POST /platform/tenants`: a tenant, and its owner, who is invited by mail.

use axum::{extract::State, response::Response};
use daybook_domain::{
    Currency, DomainError, TenantId, UserId,
    local_time::parse_zone,
    permission::Tier,
    text::{Email, Name},
    user::{By, UserCommand},
};
use daybook_projections::{Schema, tenants};
use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{TenantBody, sells_only};
use crate::{
    app::AppState,
    eventstore::{Command, StoreError, Unit},
    http::{
        context::PlatformCommand,
        headers::IDEMPOTENT_REPLAYED,
        invitations,
        json::Json,
        problem::{Code, Problem, ProblemBody, Result},
        respond, signup,
    },
    tenancy::{Access, TenantTx, admin::NewTenant},
};

/// A tenant to be created.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTenant {
    /// Its slug.
    slug: String,
    /// Its name.
    name: String,
    /// Its plan; `free` if left out.
    plan: Option<String>,
    /// Whether it is a demo tenant.
    temporary: Option<bool>,
    /// Its IANA time zone; `Europe/Brussels` if left out.
    time_zone: Option<String>,
    /// Its currency; `EUR` if left out.
    currency: Option<String>,
    /// The e-mail address of its owner, who is invited.
    owner_email: Option<String>,
    /// The owner's name.
    owner_name: Option<String>,
    /// Why.
    reason: Option<String>,
}

/// Create a tenant; its owner, if one is named, is invited by mail.
#[utoipa::path(
    post, path = "/api/v1/platform/tenants", tag = "platform", operation_id = "create_tenant",
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeats are answered, not done again")),
    request_body = CreateTenant,
    responses(
        (status = 201, body = TenantBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn create_tenant(
    State(state): State<AppState>,
    context: PlatformCommand,
    Json { value, .. }: Json<CreateTenant>,
) -> Result<Response> {
    let temporary = value.temporary.unwrap_or(false);
    if sells_only(context.principal.tier) && !temporary {
        return Err(Problem::new(Code::Forbidden, "Sales create temporary tenants only."));
    }
    let owner = value
        .owner_email
        .map(|email| -> Result<(Email, Name)> {
            let email = Email::new(&email, "/owner_email")?;
            let name = value.owner_name.as_deref().unwrap_or("Owner");
            Ok((email, Name::new(name, "/owner_name")?))
        })
        .transpose()?;
    let new = NewTenant {
        slug: signup::slug(&value.slug)?,
        name: Name::new(&value.name, "/name")?.as_str().to_owned(),
        plan: value.plan.unwrap_or_else(|| "free".into()),
        temporary,
        time_zone: parse_zone(value.time_zone.as_deref().unwrap_or("Europe/Brussels"), "/time_zone")?,
        currency: Currency::new(value.currency.as_deref().unwrap_or("EUR"))?,
    };
    let name = new.name.clone();
    // Ids that follow from the key: what a request that was cut off has left is finished by its repeat.
    let keyed = context.idempotent_id(state.store().keys());
    let tenant = TenantId(keyed.unwrap_or_else(Uuid::now_v7));
    let metadata = context.metadata(value.reason)?;
    let before = if keyed.is_some() { state.directory().by_id(tenant).await? } else { None };
    let made = match &before {
        Some(made) if made.slug != new.slug.as_str() => {
            return Err(Problem::new(Code::IdempotencyKeyReused, "The key was used for another tenant."));
        }
        Some(_) => None,
        None => Some(state.admin().create_as(tenant, new, &metadata).await?),
    };
    if let Some((email, owner_name)) = owner {
        let user = UserId(Uuid::new_v5(&tenant.0, b"owner"));
        let (letter, until) = invitations::letter(&state, tenant, user, email.clone(), &name)?;
        let command = UserCommand::Invite {
            email,
            name: owner_name,
            role: Tier::TenantOwner.into(),
            modules: Default::default(),
            customer_id: None,
            until,
            by: By::Operator,
        };
        let schema = Schema::tenant(tenant);
        let unit = Unit::of(Command::create(user, command), metadata).attach(letter);
        match state.store().execute(&schema, unit).await {
            Ok(_) | Err(StoreError::Refused { error: DomainError::AlreadyExists { .. }, .. }) => {}
            Err(error) => return Err(error.into()),
        }
        state.mailer().wake(&schema);
    }
    let mut response = created(&state, tenant).await?;
    if let Some(made) = made {
        respond::command_headers(&mut response, &made);
    } else {
        response.headers_mut().insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

async fn created(state: &AppState, tenant: TenantId) -> Result<Response> {
    let mut tx = TenantTx::begin(state.store().database().app(), &Schema::platform(), Access::Read).await?;
    let row = tenants::get(&mut tx, tenant.0).await?.ok_or_else(Problem::not_found)?;
    tx.release();
    let version = row.version;
    let mut response = respond::versioned(&TenantBody::from(row), version)?;
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}
