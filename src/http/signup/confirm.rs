//! `POST /signup/confirm`: makes the tenant and its owner. May be repeated: a tenant and an owner are made once.

use axum::{extract::State, response::Response};
use daybook_domain::{
    Currency, DomainError, Slug, TenantId, UserId,
    permission::Tier,
    text::{Email, Name},
    user::{By, UserCommand},
};
use daybook_projections::Schema;
use http::StatusCode;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{FIELD, SignupLink, Waiting};
use crate::{
    app::AppState,
    auth::{
        link::{self, Purpose},
        sealed,
    },
    eventstore::{Attached, Command, StoreError, Unit},
    http::{
        client_address::ClientAddress,
        context::Anonymous,
        json::Json,
        problem::{Code, Problem, ProblemBody, Result},
        respond,
    },
    tenancy::{Access, TenancyError, TenantTx, admin::NewTenant},
};

/// The proof that the address is theirs.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Confirm {
    /// The token of the link.
    #[schema(value_type = String)]
    token: SecretString,
}

/// A tenant that was just made.
#[derive(Debug, Serialize, ToSchema)]
pub struct SignedUp {
    /// The tenant.
    tenant_id: Uuid,
    /// Its slug: send it as `X-Tenant-Slug` when signing in.
    slug: String,
}

fn wrong_token() -> Problem {
    Problem::field("/token", "invalid_token", "the link has been used, has expired, or is none")
}

/// Confirm a sign-up. The owner can sign in then.
#[utoipa::path(
    post, path = "/api/v1/signup/confirm", tag = "signup", operation_id = "confirm_sign_up", security(()),
    request_body = Confirm,
    responses(
        (status = 201, body = SignedUp),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn confirm(
    State(state): State<AppState>,
    client: Anonymous,
    address: ClientAddress,
    Json { value, .. }: Json<Confirm>,
) -> Result<Response> {
    let limits = state.limits();
    limits.check(&limits.policies().login, &address.limit_key().to_string()).await?;
    let keys = state.store().keys();
    let SignupLink { id } =
        link::open(keys, Purpose::Signup, value.token.expose_secret(), crate::clock::now())
            .ok_or_else(wrong_token)?;
    let waiting = take(&state, id).await?;
    let metadata = client.metadata_of(format!("signup:{id}"));
    // The ids are the sign-up's own: whoever confirms twice, or after a crash, makes nothing twice.
    let tenant = TenantId(id);
    let owner = UserId(Uuid::new_v5(&id, b"owner"));
    if state.directory().by_id(tenant).await?.is_none() {
        let new = NewTenant {
            slug: Slug::new(&waiting.slug, "/slug")?,
            name: waiting.tenant_name,
            plan: "free".into(),
            temporary: false,
            time_zone: chrono_tz::Europe::Brussels,
            currency: Currency::EUR,
        };
        state.admin().create_as(tenant, new, &metadata).await?;
    }
    let command = UserCommand::Register {
        email: Email::new(&waiting.email, "/email")?,
        name: Name::new(&waiting.name, "/name")?,
        role: Tier::TenantOwner.into(),
        modules: Default::default(),
        customer_id: None,
        by: By::Operator,
    };
    let unit = Unit::of(Command::to(owner, command), metadata)
        .attach(Attached::Password { user: owner, hash: SecretString::from(waiting.password_hash) });
    let committed = match state.store().execute(&Schema::tenant(tenant), unit).await {
        Ok(committed) => Some(committed),
        Err(StoreError::Refused { error: DomainError::AlreadyExists { .. }, .. }) => None,
        Err(error) => return Err(error.into()),
    };
    forget(&state, id).await?;
    let mut response = respond::json(&SignedUp { tenant_id: tenant.0, slug: waiting.slug })?;
    if let Some(committed) = committed {
        respond::command_headers(&mut response, &committed);
    }
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

/// Reads a sign-up and holds it for as long as making a tenant may take: of two confirmations, on any node, one goes on.
/// No connection waits meanwhile.
async fn take(state: &AppState, id: Uuid) -> Result<Waiting> {
    let attempted = "read a sign-up";
    let mut tx = TenantTx::begin(state.store().database().app(), &Schema::platform(), Access::Write).await?;
    let there: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM signups WHERE id = $1 AND expires_at > now())")
            .bind(id)
            .fetch_one(&mut *tx)
            .await
            .map_err(TenancyError::db(attempted))?;
    let sealed: Option<String> = sqlx::query_scalar(
        "UPDATE signups SET confirming_until = now() + interval '1 minute'
         WHERE id = $1 AND expires_at > now() AND (confirming_until IS NULL OR confirming_until < now())
         RETURNING sealed_payload",
    )
    .bind(id)
    .fetch_optional(&mut *tx)
    .await
    .map_err(TenancyError::db(attempted))?;
    tx.commit().await?;
    let sealed = sealed.ok_or_else(|| {
        if there {
            Problem::new(Code::WrongState, "It is being confirmed; try again in a minute.")
        } else {
            wrong_token()
        }
    })?;
    let payload = sealed::open(state.store().keys(), None, FIELD, &sealed).map_err(Problem::internal)?;
    serde_json::from_slice(&payload).map_err(Problem::internal)
}

async fn forget(state: &AppState, id: Uuid) -> Result<()> {
    let mut tx = TenantTx::begin(state.store().database().app(), &Schema::platform(), Access::Write).await?;
    sqlx::query("DELETE FROM signups WHERE id = $1")
        .bind(id)
        .execute(&mut *tx)
        .await
        .map_err(TenancyError::db("forget a sign-up"))?;
    tx.commit().await?;
    Ok(())
}
