//! `POST /invitations`

use axum::{extract::State, response::Response};
use daybook_domain::{
    UserId,
    user::{UserCommand, email_key},
};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    app::AppState,
    eventstore::Command,
    http::{
        context::CommandContext,
        json::Json,
        letters,
        problem::{ProblemBody, Result},
        respond,
        users::{RoleChoice, UserBody, create::NewAccount},
    },
};

/// Who is invited, and what they will be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Invite {
    /// The e-mail address: the invitation goes there, and they sign in with it.
    email: String,
    /// The name.
    name: String,
    /// The tier; `tenant_staff` where only a role is given.
    role: Option<String>,
    /// The role of the tenant's own.
    role_id: Option<Uuid>,
    /// The modules of staff.
    modules: Option<Vec<String>>,
    /// The customer whose bookings are their own; for accounts of customers.
    customer_id: Option<Uuid>,
    /// Why.
    reason: Option<String>,
}

/// Invite somebody: a link to accept goes to the address, and works for seven days.
#[utoipa::path(
    post, path = "/api/v1/invitations", tag = "users", operation_id = "invite",
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeats are answered, not done again")),
    request_body = Invite,
    responses(
        (status = 201, body = UserBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn create(
    State(state): State<AppState>,
    context: CommandContext,
    Json { value, hash }: Json<Invite>,
) -> Result<Response> {
    let choice = RoleChoice { role: value.role, role_id: value.role_id };
    let new = NewAccount::parse(&value.email, &value.name, choice, value.modules, value.customer_id)?;
    let tenant = context.call.caller.tenant;
    let limits = state.limits();
    limits.check(&limits.policies().invitation, &tenant.to_string()).await?;
    limits.check(&limits.policies().invitation_address, &email_key(new.email.as_str())).await?;
    let user = UserId(Uuid::now_v7());
    let house = letters::house(&state, Some(tenant)).await?;
    let (letter, until) = super::letter(&state, tenant, user, new.email.clone(), &house)?;
    let command = UserCommand::Invite {
        email: new.email,
        name: new.name,
        role: new.role,
        modules: new.modules,
        customer_id: new.customer_id,
        until,
        by: context.call.caller.principal.by(),
    };
    let schema = context.call.schema.clone();
    let unit = context.unit(vec![Command::create(user, command)], value.reason, hash)?.attach(letter);
    let committed = state.store().execute(&schema, unit).await?;
    state.mailer().wake(&schema);
    respond::created(&committed, "users", &UserBody::of(&committed)?)
}
