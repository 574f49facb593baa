//! Whose public pages are called, and by whom: [`PublicCall`] is the one extractor that says so.

use std::sync::Arc;

use axum::{extract::FromRequestParts, http::request::Parts};
use daybook_domain::{
    TenantId,
    envelope::Metadata,
    permission::{Action, Resource, Scope},
};
use daybook_projections::{Schema, settings};

use crate::{
    app::AppState,
    auth::{
        Principal,
        authorize::Authorized,
        named::{Named, named_tenant},
    },
    eventstore::{Command, Unit},
    http::{
        client_address::ClientAddress,
        context::{Anonymous, checked_reason},
        etag::IfMatch,
        idempotency::ScopedKey,
        position::{self, MinPosition},
        problem::{Code, Problem, Result},
    },
    limits::Allowance,
};

/// A call by the public, or by a booking site with an API key.
#[derive(Clone, Debug)]
pub struct PublicCall {
    /// The tenant; it is active.
    pub tenant: TenantId,
    /// The version the caller saw.
    pub if_match: IfMatch,
    /// The key it came with, if it did.
    pub key: Option<Arc<Principal>>,
    client: ClientAddress,
    metadata: Metadata,
    idempotency: Option<ScopedKey>,
}

/// One more read by the public, counted before anything is looked up; a booking site's key has a limit of its own.
#[derive(Clone, Copy, Debug)]
pub struct ReadBudget(pub Option<Allowance>);

impl FromRequestParts<AppState> for ReadBudget {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self> {
        if parts.extensions.get::<Authorized>().is_some() {
            return Ok(Self(None));
        }
        let client = ClientAddress::of(&parts.extensions).limit_key();
        state.limits().check_public_availability(client).map(Some).map(Self)
    }
}

/// A call to what the house may close to the public: asking what is free, and booking.
impl FromRequestParts<AppState> for PublicCall {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self> {
        let tenant = Self::named(parts, state).await?.ok_or_else(Problem::not_found)?;
        let call = Self::of(parts, state, tenant).await?;
        if call.key.is_none() {
            let mut tx = position::read_in(state, &call.schema(), MinPosition(None)).await?;
            let settings = settings::get(&mut tx).await?;
            tx.release();
            if !settings.public_bookings {
                return Err(Problem::not_found());
            }
        }
        Ok(call)
    }
}

impl PublicCall {
    /// The tenant that a request names: by its key, else by the slug, else by the page it comes from. That key and names
    /// agree was seen to where the key was. `None` when nothing in it names one.
    ///
    /// # Errors
    /// `not_found` when it names one that is unknown or not active; `tenant_mismatch` when it names two.
    pub(super) async fn named(parts: &Parts, state: &AppState) -> Result<Option<TenantId>> {
        if let Some(Authorized { principal, .. }) = parts.extensions.get::<Authorized>() {
            return principal.tenant.map(Some).ok_or_else(Problem::not_found);
        }
        match named_tenant(state, &parts.headers).await? {
            Named::Nobody => Ok(None),
            Named::Unknown => Err(Problem::not_found()),
            Named::Tenant(tenant) => Ok(Some(tenant)),
        }
    }

    /// A call to a tenant's public pages, whether or not it takes bookings from the public: whoever has booked keeps
    /// what they have.
    ///
    /// # Errors
    /// `not_found` when the tenant is not active.
    pub(super) async fn of(parts: &mut Parts, state: &AppState, tenant: TenantId) -> Result<Self> {
        let key = parts.extensions.get::<Authorized>().map(|authorized| authorized.principal.clone());
        if state.auth().active_tenant(tenant).await?.is_none() {
            return Err(Problem::not_found());
        }
        let client = ClientAddress::of(&parts.extensions);
        let anonymous = Anonymous::from_request_parts(parts, state).await?;
        let (actor, scope) = match &key {
            Some(key) => (key.actor(), key.actor()),
            // Guests share no keys; whose a key is, is told by the address, of which only a digest is kept.
            None => {
                let address = client.limit_key().to_string();
                let digest = state.store().keys().hmac_unique("guest", tenant.0, address.as_bytes());
                ("guest".to_owned(), format!("guest:{}", hex::encode(&digest[..16])))
            }
        };
        let metadata = Metadata {
            source: Some("public".into()),
            role: key.as_ref().map(|key| key.tier.as_str().to_owned()),
            ..anonymous.metadata_of(actor)
        };
        let (headers, path) = (&parts.headers, parts.uri.path());
        let idempotency = ScopedKey::parse(headers, &parts.method, path, &scope)?;
        Ok(Self { tenant, if_match: IfMatch::parse(headers)?, key, client, metadata, idempotency })
    }

    /// The schema of the tenant.
    pub fn schema(&self) -> Schema {
        Schema::tenant(self.tenant)
    }

    /// The client's address.
    pub fn client(&self) -> ClientAddress {
        self.client
    }

    /// Whether a key, where there is one, has a permission.
    ///
    /// # Errors
    /// `forbidden` when it has not.
    pub fn allows(&self, resource: Resource, action: Action) -> Result<()> {
        let Some(key) = &self.key else { return Ok(()) };
        if key.permissions.scope(resource, action).is_some_and(|scope| scope >= Scope::Tenant) {
            return Ok(());
        }
        Err(Problem::new(Code::Forbidden, "The key has no permission for this."))
    }

    /// The commands as one unit, with the reason given in the body and the body's hash.
    ///
    /// # Errors
    /// `validation_failed` at `/reason` when it is too long or not text.
    pub fn unit(self, commands: Vec<Command>, reason: Option<String>, hash: [u8; 32]) -> Result<Unit> {
        let metadata = Metadata { reason: checked_reason(reason)?, ..self.metadata };
        let idempotency = self.idempotency.map(|key| key.bind(hash));
        Ok(Unit { commands, metadata, occurred_at: None, idempotency, attached: Vec::new(), within: None })
    }
}
