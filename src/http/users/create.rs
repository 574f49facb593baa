//! `POST /users`: an account with a password, made by somebody who manages accounts. To let people choose theirs, invite
//! them.

use std::collections::BTreeSet;

use axum::{extract::State, response::Response};
use daybook_domain::{
    CustomerId, UserId,
    permission::Module,
    text::{Email, Name},
    user::{UserCommand, UserRole},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{RoleChoice, UserBody, modules};
use crate::{
    app::AppState,
    auth::password_policy,
    eventstore::{Attached, Command},
    http::{
        context::CommandContext,
        json::Json,
        problem::{ProblemBody, Result},
        respond,
    },
};

/// An account to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateUser {
    /// The e-mail address: what they sign in with.
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
    /// The password.
    #[schema(value_type = String)]
    password: SecretString,
    /// Why.
    reason: Option<String>,
}

/// Who an account is for, parsed.
pub struct NewAccount {
    /// The e-mail address.
    pub email: Email,
    /// The name.
    pub name: Name,
    /// What they are.
    pub role: UserRole,
    /// The modules of staff.
    pub modules: BTreeSet<Module>,
    /// The customer they are.
    pub customer_id: Option<CustomerId>,
}

impl NewAccount {
    /// Parses what a request says.
    ///
    /// # Errors
    /// `validation_failed` at the field that is wrong.
    pub fn parse(
        email: &str,
        name: &str,
        role: RoleChoice,
        modules: Option<Vec<String>>,
        customer_id: Option<Uuid>,
    ) -> Result<Self> {
        Ok(Self {
            email: Email::new(email, "/email")?,
            name: Name::new(name, "/name")?,
            role: role.parse()?,
            modules: modules::parse(&modules.unwrap_or_default())?,
            customer_id: customer_id.map(CustomerId),
        })
    }
}

/// Make an account.
#[utoipa::path(
    post, path = "/api/v1/users", tag = "users", operation_id = "create_user",
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeats are answered, not done again")),
    request_body = CreateUser,
    responses(
        (status = 201, body = UserBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn create(
    State(state): State<AppState>,
    context: CommandContext,
    Json { value, hash }: Json<CreateUser>,
) -> Result<Response> {
    let choice = RoleChoice { role: value.role, role_id: value.role_id };
    let new = NewAccount::parse(&value.email, &value.name, choice, value.modules, value.customer_id)?;
    let attributes = [new.email.as_str(), new.name.as_str()];
    password_policy::check(value.password.expose_secret(), &attributes, "/password")?;
    let password = state.hash_password(value.password).await?;
    let user = UserId(Uuid::now_v7());
    let command = UserCommand::Register {
        email: new.email,
        name: new.name,
        role: new.role,
        modules: new.modules,
        customer_id: new.customer_id,
        by: context.call.caller.principal.by(),
    };
    let schema = context.call.schema.clone();
    let command = Command::create(user, command).expecting(context.if_match.expected());
    let unit =
        context.unit(vec![command], value.reason, hash)?.attach(Attached::Password { user, hash: password });
    let committed = state.store().execute(&schema, unit).await?;
    respond::created(&committed, "users", &UserBody::of(&committed)?)
}
