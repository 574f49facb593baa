//! Letters: what a command tells somebody by mail, in the transaction of its events. Links begin with the configured
//! address of the site, never with what a request says of itself.

use daybook_domain::{Email, TenantId, UserId};
use daybook_projections::{Schema, settings};
use secrecy::{ExposeSecret as _, SecretString};

use super::problem::{Problem, Result};
use crate::{
    app::AppState,
    eventstore::Attached,
    mail::{Message, sealer::KeySealer, templates::Addressee},
    tenancy::{Access, TenantTx},
};

/// The name of the house as mails call it.
///
/// # Errors
/// `unavailable` when the database is away.
pub async fn house(state: &AppState, tenant: Option<TenantId>) -> Result<String> {
    let Some(tenant) = tenant else { return Ok("Daybook".to_owned()) };
    let mut tx =
        TenantTx::begin(state.store().database().app(), &Schema::tenant(tenant), Access::Read).await?;
    let settings = settings::get(&mut tx).await?;
    tx.release();
    match settings.display_name {
        Some(name) => Ok(name),
        None => Ok(state.auth().active_tenant(tenant).await?.map(|t| t.name.clone()).unwrap_or_default()),
    }
}

/// The link to a page of the site, with a token in it.
pub fn link(state: &AppState, page: &str, token: &SecretString) -> SecretString {
    SecretString::from(format!("{}/{page}?token={}", state.settings().public_url(), token.expose_secret()))
}

/// Whom a letter goes to.
pub fn to(email: Email, user: Option<UserId>) -> Addressee {
    Addressee { email, user: user.map(|user| user.0) }
}

/// A letter, sealed until it is sent.
///
/// # Errors
/// `internal` when it cannot be sealed.
pub fn attach(state: &AppState, tenant: Option<TenantId>, message: Message) -> Result<Attached> {
    let sealer = KeySealer(state.store().keys().clone());
    let sealed = message.seal(&sealer, tenant).map_err(Problem::internal)?;
    Ok(Attached::Message(sealed))
}
