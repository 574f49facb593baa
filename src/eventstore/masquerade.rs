//! What decisions about support sessions and hijacks need to know, what ends them with the window they depend on, and the
//! check, under the head's lock, that whatever is asked in one is asked while it lasts.

use std::{fmt, sync::Arc};

use daybook_domain::{
    Decider as _, DomainError, HijackId, SupportSessionId, UserId,
    envelope::Metadata,
    hijack::{self, Hijack, HijackCommand, HijackContext, Place, Via, rules},
    registry::{AggregateType, AnyCommand, AnyState, Registered as _},
    settings::Settings,
    support_request::{Party, SupportActor, SupportRequest, SupportStatus},
    support_session::{SupportMode, SupportSession, SupportSessionCommand, SupportSessionContext},
};
use uuid::Uuid;

use super::{Command, StoreError, StreamRef, Unit, batch::Work, decide::active_tier};

/// The support session or hijack that a command is given in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within {
    /// A support session, of the log the command goes to.
    Support(SupportSessionId),
    /// A hijack, of the log the command goes to.
    Hijack(HijackId),
}

impl fmt::Display for Within {
    /// As the events that are caused in it name it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Support(id) => write!(f, "{}:{id}", SupportSession::TYPE),
            Self::Hijack(id) => write!(f, "{}:{id}", Hijack::TYPE),
        }
    }
}

/// The context of a decision about a support session. Its time is that of the batch, which is the clock of the database.
pub(super) async fn session_context(
    work: &mut Work<'_, '_>,
    id: SupportSessionId,
    session: &SupportSession,
    command: &SupportSessionCommand,
) -> Result<SupportSessionContext, StoreError> {
    let (named, by) = match command {
        SupportSessionCommand::Start { support_request_id, .. } => (*support_request_id, None),
        SupportSessionCommand::End { by } => (session.support_request_id, Some(*by)),
        SupportSessionCommand::View(_)
        | SupportSessionCommand::Deny(_)
        | SupportSessionCommand::Lapse { .. } => (session.support_request_id, None),
    };
    let request = match named {
        Some(request) => work.state::<SupportRequest>(request.0).await?,
        None => None,
    };
    let actor_tier = account_tier(work, by).await?;
    Ok(SupportSessionContext { now: work.now(), id, request, actor_tier })
}

/// The context of a decision about a hijack.
pub(super) async fn hijack_context(
    work: &mut Work<'_, '_>,
    id: HijackId,
    hijack: &Hijack,
    command: &HijackCommand,
) -> Result<HijackContext, StoreError> {
    let waiver = waiver(work).await?;
    let (actor_tier, target_tier, request) = match command {
        HijackCommand::Start { by, target, .. } => {
            let actor_tier = match by {
                hijack::By::Account(user) => active_tier(work, *user).await?,
                hijack::By::Platform { .. } => None,
            };
            (actor_tier, active_tier(work, *target).await?, open_window(work, by.user()).await?)
        }
        HijackCommand::End { by } => {
            let tier = account_tier(work, Some(*by)).await?;
            (tier, None, window_of(work, hijack).await?)
        }
        HijackCommand::View(_) | HijackCommand::Deny(_) | HijackCommand::Lapse { .. } => {
            (None, None, window_of(work, hijack).await?)
        }
    };
    let in_tenant = work.schema.tenant_id().is_some();
    Ok(HijackContext { now: work.now(), id, in_tenant, waiver, actor_tier, target_tier, request })
}

async fn account_tier(
    work: &mut Work<'_, '_>,
    by: Option<SupportActor>,
) -> Result<Option<daybook_domain::permission::Tier>, StoreError> {
    match by {
        Some(SupportActor::Account(user)) => active_tier(work, user).await,
        Some(SupportActor::Platform { .. } | SupportActor::Key | SupportActor::Operator) | None => Ok(None),
    }
}

/// The support request in whose window a hijack is.
async fn window_of(
    work: &mut Work<'_, '_>,
    hijack: &Hijack,
) -> Result<Option<Arc<SupportRequest>>, StoreError> {
    match hijack.via.window() {
        Some(request) => work.state::<SupportRequest>(request.0).await,
        None => Ok(None),
    }
}

/// Whether the tenant lets the platform's people act as its own without asking.
async fn waiver(work: &mut Work<'_, '_>) -> Result<bool, StoreError> {
    let Some(tenant) = work.schema.tenant_id() else { return Ok(false) };
    Ok(work.state::<Settings>(tenant.0).await?.is_some_and(|settings| settings.hijack_without_approval))
}

/// The support request of somebody's whose window is open, of the read model and of this batch; of several the one that
/// stays open for longest.
async fn open_window(
    work: &mut Work<'_, '_>,
    requested_by: UserId,
) -> Result<Option<Arc<SupportRequest>>, StoreError> {
    if work.schema.tenant_id().is_none() {
        return Ok(None);
    }
    let sql = work.schema.sql(
        "SELECT id FROM {s}.support_requests WHERE requested_by = $1 AND status = 'approved' AND open_until > now()
         ORDER BY open_until DESC",
    );
    let mut found: Vec<Uuid> = sqlx::query_scalar(&sql)
        .bind(requested_by.0)
        .fetch_all(&mut **work.tx)
        .await
        .map_err(StoreError::db("look up somebody's window"))?;
    found.extend(
        work.touched_states()
            .filter(|(_, _, after)| {
                SupportRequest::of(after).is_some_and(|request| request.requested_by == requested_by)
            })
            .map(|(id, ..)| id),
    );
    let now = work.now();
    let mut longest: Option<Arc<SupportRequest>> = None;
    for id in found {
        let request = work.state::<SupportRequest>(id).await?.filter(|request| request.is_open(now));
        if let Some(request) = request
            && longest.as_ref().is_none_or(|longest| longest.open_until < request.open_until)
        {
            longest = Some(request);
        }
    }
    Ok(longest)
}

/// Whether an aggregate lets somebody in as long as it is like this: a support request whose window may be open, settings
/// that waive the asking.
pub(super) fn lets_in(state: &AnyState) -> bool {
    SupportRequest::of(state).is_some_and(|request| request.status == SupportStatus::Approved)
        || Settings::of(state).is_some_and(|settings| settings.hijack_without_approval)
}

impl Work<'_, '_> {
    /// Refuses what is asked in a support session or a hijack that is over, or that is to change nothing.
    ///
    /// The gate has asked as well, a moment ago. Here no time passes any more between the question and the events.
    pub(super) async fn goes_on(&mut self, within: Within) -> Result<(), StoreError> {
        let now = self.now();
        let open = |request: Option<Arc<SupportRequest>>| request.is_some_and(|request| request.is_open(now));
        let goes_on = match within {
            Within::Support(id) => {
                let session = self.state::<SupportSession>(id.0).await?;
                let Some(session) = session.filter(|session| session.is_open(now)) else {
                    return Err(DomainError::SessionOver.into());
                };
                match (session.mode, session.support_request_id) {
                    (SupportMode::Redacted, _) => return Err(DomainError::ReadOnly.into()),
                    (SupportMode::Mock, _) => true,
                    (SupportMode::Real, Some(request)) => {
                        open(self.state::<SupportRequest>(request.0).await?)
                    }
                    (SupportMode::Real, None) => false,
                }
            }
            Within::Hijack(id) => {
                let hijack = self.state::<Hijack>(id.0).await?;
                let Some(hijack) = hijack.filter(|hijack| hijack.is_open(now)) else {
                    return Err(DomainError::SessionOver.into());
                };
                let leave = match hijack.via {
                    Via::Tier | Via::TemporaryTenant => true,
                    Via::Waiver => waiver(self).await?,
                    Via::Window { support_request_id } => {
                        open(self.state::<SupportRequest>(support_request_id.0).await?)
                    }
                };
                leave && self.still_matched(&hijack).await?
            }
        };
        if goes_on { Ok(()) } else { Err(DomainError::SessionOver.into()) }
    }

    /// Whether the two of a hijack are still such as may act, and be acted as. Of one of the platform's people in a tenant
    /// the log does not know what they are now; the gate does.
    async fn still_matched(&mut self, hijack: &Hijack) -> Result<bool, StoreError> {
        let Some(target) = active_tier(self, hijack.target).await? else { return Ok(false) };
        let (hijacker, place) = match (hijack.by, self.schema.tenant_id()) {
            (Some(Party::Platform { .. }), Some(_)) => return Ok(!target.is_platform()),
            (Some(Party::Tenant { user_id }), Some(_)) => (user_id, Place::Own),
            (Some(Party::Platform { user_id }), None) => (user_id, Place::Platform),
            (Some(Party::Tenant { .. }), None) | (Some(Party::Operator) | None, _) => return Ok(false),
        };
        let Some(tier) = active_tier(self, hijacker).await? else { return Ok(false) };
        Ok(rules::may_act_as(tier, target, place).is_ok())
    }

    /// Ends the support sessions and hijacks that depended on a window or a waiver that is no more, in the very unit that
    /// took it back: the log says when and with what they ended.
    pub(super) async fn end_masquerades(
        &mut self,
        on: StreamRef,
        metadata: &Metadata,
    ) -> Result<(), StoreError> {
        let by_waiver = on.aggregate_type == AggregateType::Settings;
        let mut dependent: Vec<(AggregateType, Uuid)> = Vec::new();
        if !by_waiver {
            let sql = self.schema.sql(
                "SELECT id FROM {s}.support_sessions
                 WHERE support_request_id = $1 AND refused IS NULL AND ended_at IS NULL ORDER BY id",
            );
            let found: Vec<Uuid> = sqlx::query_scalar(&sql)
                .bind(on.id)
                .fetch_all(&mut **self.tx)
                .await
                .map_err(StoreError::db("look up the sessions of a window"))?;
            dependent.extend(found.into_iter().map(|id| (AggregateType::SupportSession, id)));
        }
        let sql = self.schema.sql(
            "SELECT id FROM {s}.hijacks
             WHERE refused IS NULL AND ended_at IS NULL
               AND (support_request_id = $1 OR ($2 AND via = 'waiver')) ORDER BY id",
        );
        let found: Vec<Uuid> = sqlx::query_scalar(&sql)
            .bind(on.id)
            .bind(by_waiver)
            .fetch_all(&mut **self.tx)
            .await
            .map_err(StoreError::db("look up the hijacks of a window"))?;
        dependent.extend(found.into_iter().map(|id| (AggregateType::Hijack, id)));
        // Those that this very batch began.
        let now = self.now();
        dependent.extend(self.touched_states().filter_map(|(id, _, after)| {
            let kind = after.aggregate_type();
            let depends = SupportSession::of(after)
                .filter(|session| session.is_open(now))
                .is_some_and(|session| session.support_request_id.is_some_and(|request| request.0 == on.id))
                || Hijack::of(after).filter(|hijack| hijack.is_open(now)).is_some_and(|hijack| match hijack
                    .via
                {
                    Via::Window { support_request_id } => support_request_id.0 == on.id,
                    Via::Waiver => by_waiver,
                    Via::Tier | Via::TemporaryTenant => false,
                });
            depends.then_some((kind, id))
        }));
        for (kind, id) in dependent {
            let lapse: AnyCommand = match kind {
                AggregateType::Hijack => HijackCommand::Lapse { allowed: true }.into(),
                _ => SupportSessionCommand::Lapse { allowed: true }.into(),
            };
            let before = self.entry(id, kind).await?;
            let unit = Unit::of(Command::to(id, lapse), metadata.clone());
            let decided = super::decide::decide(self, &before.state, &unit.commands[0], &unit).await?;
            self.record(id, before, decided, &unit.metadata, None).await?;
        }
        Ok(())
    }
}
