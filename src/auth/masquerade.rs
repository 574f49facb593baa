//! Who calls in a support session or a hijack: looked up at every use, a second old at most, as everything in the
//! directory. What it takes to go on is asked anew each time: the session itself, the window or the waiver it is by, the
//! sign-in it was begun from, the tiers of those in it.
//!
//! Times are the database's. It says for how much longer a session lasts, and that is measured by a clock that nobody sets.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use daybook_domain::{
    HijackId, SessionId, SupportSessionId, TenantId, UserId,
    hijack::{HijackCommand, Place, rules},
    permission::{Permissions, Tier},
    registry::AnyCommand,
    support_request::Party,
    support_session::{SupportMode, SupportSessionCommand, supports},
};
use daybook_projections::Schema;
use uuid::Uuid;

use super::{
    access_token::{self, AccessClaims, Use},
    directory::AuthDirectory,
    principal::{Credential, Principal},
};
use crate::{
    eventstore::{Command, Committed, EventStore, StoreError, Unit},
    tenancy::{Access, TenancyError, TenantTx},
};

/// A session of somebody who is not of the house, that is open by the clock and by what it depends on.
enum Open {
    Support { user: UserId, signed_in: SessionId, mode: SupportMode },
    Hijack { by: Party, signed_in: SessionId, target: UserId, via: String },
}

/// Whether such a session goes on.
pub enum Standing {
    /// It does, for this principal.
    GoesOn(Box<Principal>),
    /// It is open, and one of those in it is not anymore who may be.
    NoLongerAllowed,
    /// It is not open, or never was.
    Over,
}

impl AuthDirectory {
    /// The principal of a support session's or a hijack's token.
    pub(super) async fn masquerade(
        &self,
        claims: &AccessClaims,
    ) -> Result<Option<Arc<Principal>>, TenancyError> {
        let asked = Instant::now();
        let key = (claims.usage, claims.tenant_id, claims.sid);
        let found = match self.inner.masquerades.get(&key, asked) {
            Some(known) => known,
            None => {
                let found = match self.standing(claims).await? {
                    Standing::GoesOn(principal) => Some(Arc::new(*principal)),
                    Standing::NoLongerAllowed | Standing::Over => None,
                };
                self.inner.masquerades.put(key, asked, found.clone());
                found
            }
        };
        // A token that says something else than its session is not one of ours.
        Ok(found.filter(|principal| principal.lasts() && says(claims, principal)))
    }

    /// Where the session of a token stands now.
    ///
    /// # Errors
    /// When PostgreSQL refuses.
    pub async fn standing(&self, claims: &AccessClaims) -> Result<Standing, TenancyError> {
        self.standing_of(claims.usage, claims.tenant_id.map(TenantId), claims.sid).await
    }

    /// Where a session stands now, by its id.
    ///
    /// # Errors
    /// When PostgreSQL refuses.
    pub async fn standing_of(
        &self,
        usage: Use,
        tenant: Option<TenantId>,
        id: Uuid,
    ) -> Result<Standing, TenancyError> {
        let asked = Instant::now();
        let Some((open, left)) = self.open(usage, tenant, id).await? else {
            return Ok(Standing::Over);
        };
        let principal = match open {
            Open::Support { user, signed_in, mode } => {
                self.supporter(tenant, SupportSessionId(id), user, signed_in, mode).await?
            }
            Open::Hijack { by, signed_in, target, via } => {
                self.hijacker(tenant, HijackId(id), by, signed_in, target, &via).await?
            }
        };
        Ok(match principal {
            Some(principal) => {
                Standing::GoesOn(Box::new(Principal { ends: asked.checked_add(left), ..principal }))
            }
            None => Standing::NoLongerAllowed,
        })
    }

    /// An open session of that id, and for how much longer.
    async fn open(
        &self,
        usage: Use,
        tenant: Option<TenantId>,
        id: Uuid,
    ) -> Result<Option<(Open, Duration)>, TenancyError> {
        let schema = tenant.map_or_else(Schema::platform, Schema::tenant);
        let attempted = "look up a support session or a hijack";
        let mut tx = TenantTx::begin(self.inner.database.app(), &schema, Access::Read).await?;
        let left = |seconds: f64| Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default();
        let found = match (usage, tenant) {
            // A support session is in a tenant: the platform's schema has none.
            (Use::Session, _) | (Use::Support, None) => None,
            (Use::Support, Some(_)) => {
                let row: Option<(Uuid, Uuid, String, f64)> = sqlx::query_as(
                    "SELECT s.user_id, s.signed_in, s.mode, extract(epoch FROM s.until - clock_timestamp())::float8
                     FROM support_sessions s LEFT JOIN support_requests r ON r.id = s.support_request_id
                     WHERE s.id = $1 AND s.refused IS NULL AND s.ended_at IS NULL AND s.until > clock_timestamp()
                       AND (s.mode <> 'real' OR (r.status = 'approved' AND r.open_until > clock_timestamp()))",
                )
                .bind(id)
                .fetch_optional(&mut *tx)
                .await
                .map_err(TenancyError::db(attempted))?;
                row.and_then(|(user, signed_in, mode, seconds)| {
                    let mode = SupportMode::parse(&mode)?;
                    let (user, signed_in) = (UserId(user), SessionId(signed_in));
                    Some((Open::Support { user, signed_in, mode }, left(seconds)))
                })
            }
            (Use::Hijack, _) => {
                // The platform's people are acted as by the platform's: there is no window and no waiver to ask about.
                let sql = match tenant {
                    None => {
                        "SELECT h.hijacker, h.hijacker_side, h.signed_in, h.target, h.via,
                                extract(epoch FROM h.until - clock_timestamp())::float8
                         FROM hijacks h
                         WHERE h.id = $1 AND h.refused IS NULL AND h.ended_at IS NULL AND h.until > clock_timestamp()
                           AND h.via = 'tier'"
                    }
                    Some(_) => {
                        "SELECT h.hijacker, h.hijacker_side, h.signed_in, h.target, h.via,
                                extract(epoch FROM h.until - clock_timestamp())::float8
                         FROM hijacks h LEFT JOIN support_requests r ON r.id = h.support_request_id
                         WHERE h.id = $1 AND h.refused IS NULL AND h.ended_at IS NULL AND h.until > clock_timestamp()
                           AND (h.via <> 'window' OR (r.status = 'approved' AND r.open_until > clock_timestamp()))
                           AND (h.via <> 'waiver' OR EXISTS (SELECT FROM settings WHERE hijack_without_approval))"
                    }
                };
                let row: Option<(Option<Uuid>, String, Uuid, Uuid, String, f64)> = sqlx::query_as(sql)
                    .bind(id)
                    .fetch_optional(&mut *tx)
                    .await
                    .map_err(TenancyError::db(attempted))?;
                row.and_then(|(hijacker, side, signed_in, target, via, seconds)| {
                    let user_id = UserId(hijacker?);
                    let by = match side.as_str() {
                        "tenant" => Party::Tenant { user_id },
                        "platform" => Party::Platform { user_id },
                        _ => return None,
                    };
                    let (signed_in, target) = (SessionId(signed_in), UserId(target));
                    Some((Open::Hijack { by, signed_in, target, via }, left(seconds)))
                })
            }
        };
        tx.release();
        Ok(found)
    }

    /// One of the platform's people in a tenant, if they still support tenants and are signed in. They may what an owner
    /// may, as far as the gate lets whoever is not of the house.
    async fn supporter(
        &self,
        tenant: Option<TenantId>,
        session: SupportSessionId,
        user: UserId,
        signed_in: SessionId,
        mode: SupportMode,
    ) -> Result<Option<Principal>, TenancyError> {
        let Some(account) = self.signed_in(None, user, signed_in).await? else { return Ok(None) };
        if tenant.is_none() || !supports(account.tier) {
            return Ok(None);
        }
        let permissions = Tier::TenantOwner.permissions();
        Ok(Some(Principal {
            credential: Credential::Support { user, session, mode },
            tenant,
            tier: account.tier,
            permissions: permissions.clone(),
            own: Permissions::default(),
            granted: Vec::new(),
            customer: None,
            assigned: Vec::new(),
            calls_per_hour: None,
            expires_at: None,
            ends: None,
            masked: mode == SupportMode::Redacted,
        }))
    }

    /// Somebody as somebody else, if they are signed in and the rules still let them.
    async fn hijacker(
        &self,
        tenant: Option<TenantId>,
        hijack: HijackId,
        by: Party,
        signed_in: SessionId,
        target: UserId,
        via: &str,
    ) -> Result<Option<Principal>, TenancyError> {
        let (user, house) = match by {
            Party::Tenant { user_id } => (user_id, tenant),
            Party::Platform { user_id } => (user_id, None),
            Party::Operator => return Ok(None),
        };
        let Some(hijacker) = self.signed_in(house, user, signed_in).await? else { return Ok(None) };
        // Whom they act as need not be signed in.
        let Some(account) = self.user(tenant, target, SessionId::default(), false).await? else {
            return Ok(None);
        };
        let place = match (by, tenant) {
            (Party::Tenant { .. }, _) => Place::Own,
            (_, None) => Place::Platform,
            (_, Some(tenant)) => {
                let temporary = self.active_tenant(tenant).await?.is_some_and(|tenant| tenant.temporary);
                Place::Tenant { temporary }
            }
        };
        if via == "temporary_tenant" && place != (Place::Tenant { temporary: true })
            || rules::may_act_as(hijacker.tier, account.tier, place).is_err()
        {
            return Ok(None);
        }
        let credential = Credential::Hijack { target, hijack, by, tier: hijacker.tier };
        Ok(Some(Principal { credential, ..account }))
    }
}

/// Whether a token says what its session says.
fn says(claims: &AccessClaims, principal: &Principal) -> bool {
    let actor = claims.act.map(|act| UserId(act.sub));
    let subject = UserId(claims.sub);
    let right = match principal.credential {
        Credential::Support { user, session, .. } => {
            claims.usage == Use::Support && session.0 == claims.sid && user == subject && actor.is_none()
        }
        Credential::Hijack { target, hijack, by, .. } => {
            claims.usage == Use::Hijack
                && hijack.0 == claims.sid
                && target == subject
                && actor.is_some()
                && actor == by.user()
        }
        Credential::Session { .. } | Credential::ApiKey(_) => false,
    };
    right && principal.tenant == claims.tenant_id.map(TenantId)
}

/// Puts the end of a session into its log whose token was refused because one of those in it is not who may be any more.
/// Answers whether there was one to end. What only time has ended, the sweep notes.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn settle(
    directory: &AuthDirectory,
    store: &EventStore,
    token: &str,
) -> Result<Option<(Schema, Committed)>, StoreError> {
    let Ok(claims) = access_token::verify(store.keys(), token, crate::clock::now()) else { return Ok(None) };
    let lapse: AnyCommand = match claims.usage {
        Use::Session => return Ok(None),
        Use::Support => SupportSessionCommand::Lapse { allowed: false }.into(),
        Use::Hijack => HijackCommand::Lapse { allowed: false }.into(),
    };
    if !matches!(directory.standing(&claims).await?, Standing::NoLongerAllowed) {
        return Ok(None);
    }
    let schema = claims.tenant_id.map_or_else(Schema::platform, |tenant| Schema::tenant(TenantId(tenant)));
    let metadata = daybook_domain::envelope::Metadata::system("support-sessions");
    let committed = store.execute(&schema, Unit::of(Command::to(claims.sid, lapse), metadata)).await?;
    Ok(Some((schema, committed)))
}
