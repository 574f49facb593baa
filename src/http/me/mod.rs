//! One's own account.

pub mod delete;
pub mod get;
pub mod update;

use daybook_projections::users::{self, UserRow};
use http::{HeaderValue, header};
use secrecy::SecretString;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    context::OwnCommand,
    problem::{Code, Problem, Result},
};
use crate::{
    app::AppState,
    auth::lockout::Attempt,
    tenancy::{Access, TenancyError, TenantTx},
};

/// The routes.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(get::get, update::update, delete::delete))
}

/// The account's row.
pub(super) async fn row(state: &AppState, own: &OwnCommand) -> Result<UserRow> {
    let mut tx = TenantTx::begin(state.store().database().app(), &own.schema(), Access::Read).await?;
    let row = users::get(&mut tx, own.user.0).await?.ok_or_else(Problem::not_found)?;
    tx.release();
    Ok(row)
}

/// Whether somebody who holds a session also knows the password. Tries are counted like those of signing in.
///
/// # Errors
/// `validation_failed` at `pointer` when it is wrong, `rate_limited` after too many.
pub(super) async fn prove_password(
    state: &AppState,
    own: &OwnCommand,
    password: SecretString,
    pointer: &str,
) -> Result<()> {
    let database = state.store().database();
    let account = format!("own:{}", own.user);
    let attempt = Attempt::new(state.store().keys(), own.tenant, &account, "", true);
    if let Err(locked) = attempt.begin(database).await? {
        return Err(Problem::new(Code::RateLimited, "Too many failures; try again later.")
            .with_header(header::RETRY_AFTER, HeaderValue::from(locked.retry_after)));
    }
    let mut tx = TenantTx::begin(database.app(), &own.schema(), Access::Read).await?;
    let stored: Option<String> = sqlx::query_scalar("SELECT hash FROM user_passwords WHERE user_id = $1")
        .bind(own.user.0)
        .fetch_optional(&mut *tx)
        .await
        .map_err(TenancyError::db("read a password's hash"))?;
    tx.release();
    let verdict =
        state.hasher().verify(password, stored.map(SecretString::from)).await.map_err(Problem::internal)?;
    if !verdict.matches {
        return Err(Problem::field(pointer, "wrong_password", "the password is not the account's"));
    }
    attempt.succeeded(database).await?;
    Ok(())
}
