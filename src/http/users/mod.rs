//! Accounts of a tenant's people, for those who manage them.

pub mod activate;
pub mod create;
pub mod deactivate;
pub mod delete;
pub mod get;
pub mod list;
pub mod modules;
pub mod role;
pub mod update;

use axum::response::Response;
use chrono::{DateTime, Utc};
use daybook_domain::{
    Disclosed, RoleId, UserId,
    permission::Tier,
    registry::Registered as _,
    user::{User, UserCommand, UserRole},
};
use daybook_projections::users::UserRow;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    context::CommandContext,
    problem::{Code, Problem, Result},
    respond::{self, subject, wrong_type},
};
use crate::{
    app::AppState,
    eventstore::{Attached, Command, Committed},
};

/// The routes.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list::list, create::create))
        .routes(routes!(get::get, update::update, delete::delete))
        .routes(routes!(activate::activate))
        .routes(routes!(deactivate::deactivate))
        .routes(routes!(role::role))
        .routes(routes!(modules::modules))
}

/// An account.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = User)]
pub struct UserBody {
    /// Its id.
    pub id: Uuid,
    /// The e-mail address; null once the account is gone.
    #[schema(value_type = Option<String>)]
    pub email: Disclosed<String>,
    /// The name; null once the account is gone.
    #[schema(value_type = Option<String>)]
    pub name: Disclosed<String>,
    /// The tier.
    pub role: String,
    /// The role of the tenant's own, in place of modules.
    pub role_id: Option<Uuid>,
    /// The modules of staff.
    pub modules: Vec<String>,
    /// The resources assigned to staff.
    pub resource_ids: Vec<Uuid>,
    /// The customer whose bookings are their own.
    pub customer_id: Option<Uuid>,
    /// `invited`, `active`, `deactivated` or `deleted`.
    pub status: String,
    /// Until when an invitation can be accepted.
    pub invited_until: Option<DateTime<Utc>>,
    /// The version, as in `ETag`.
    pub version: i64,
    /// When it was made; in reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<DateTime<Utc>>,
    /// When it last changed; in reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<DateTime<Utc>>,
}

impl From<UserRow> for UserBody {
    fn from(row: UserRow) -> Self {
        Self {
            id: row.id,
            email: row.email,
            name: row.name,
            role: row.tier,
            role_id: row.role_id,
            modules: row.modules,
            resource_ids: row.assigned,
            customer_id: row.customer_id,
            status: row.status,
            invited_until: row.invited_until,
            version: row.version,
            created_at: Some(row.created_at),
            updated_at: Some(row.updated_at),
        }
    }
}

impl UserBody {
    /// The account as a command left it.
    ///
    /// # Errors
    /// When the command was for something else.
    pub fn of(committed: &Committed) -> Result<Self> {
        let changed = subject(committed)?;
        let user = User::of(&changed.state).ok_or_else(wrong_type)?;
        Ok(Self {
            id: changed.id,
            email: (&user.email).into(),
            name: (&user.name).into(),
            role: user.role.tier.as_str().to_owned(),
            role_id: user.role.role_id.map(|role| role.0),
            modules: user.modules.iter().map(|module| module.as_str().to_owned()).collect(),
            resource_ids: user.assigned.iter().map(|resource| resource.0).collect(),
            customer_id: user.customer_id.map(|customer| customer.0),
            status: user.status.as_str().to_owned(),
            invited_until: user.invited_until,
            version: changed.sequence,
            created_at: None,
            updated_at: None,
        })
    }
}

/// What an account is to be: a tier, or a role of the tenant's own, which is one of staff.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleChoice {
    /// The tier; `tenant_staff` where only a role is given.
    pub role: Option<String>,
    /// The role of the tenant's own.
    pub role_id: Option<Uuid>,
}

impl RoleChoice {
    /// The role, parsed.
    ///
    /// # Errors
    /// `validation_failed` when there is no such tier or neither is given.
    pub fn parse(&self) -> Result<UserRole> {
        let tier = match (self.role.as_deref(), self.role_id) {
            (Some(name), _) => Tier::parse(name)
                .ok_or_else(|| Problem::field("/role", "unknown_role", "there is no such role"))?,
            (None, Some(_)) => Tier::TenantStaff,
            (None, None) => return Err(Problem::field("/role", "required", "give role or role_id")),
        };
        Ok(UserRole { tier, role_id: self.role_id.map(RoleId) })
    }
}

/// Runs a command on an account and answers with what became of it.
async fn run(
    state: &AppState,
    context: CommandContext,
    id: UserId,
    command: UserCommand,
    attached: Vec<Attached>,
    reason: Option<String>,
    hash: [u8; 32],
) -> Result<Committed> {
    let schema = context.call.schema.clone();
    let command = Command::to(id, command).expecting(context.if_match.expected());
    let mut unit = context.unit(vec![command], reason, hash)?;
    unit.attached = attached;
    Ok(state.store().execute(&schema, unit).await?)
}

/// One's own account is changed and deleted where the password is asked for.
fn not_own(context: &CommandContext, id: UserId) -> Result<()> {
    match context.call.caller.principal.session() {
        Some((own, _)) if own == id => Err(Problem::new(
            Code::Forbidden,
            "This is your own account; use /me, which asks for the password.",
        )),
        _ => Ok(()),
    }
}

/// The answer with the account as it is now.
fn answer(committed: &Committed) -> Result<Response> {
    respond::done(committed, &UserBody::of(committed)?)
}
