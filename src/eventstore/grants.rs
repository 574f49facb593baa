//! What decisions about permission grants need to know, and what ends grants with their grantee's account.

use daybook_domain::{
    GrantId, UserId,
    envelope::Metadata,
    permission_grant::{
        GrantState, Holder, PermissionGrant, PermissionGrantCommand, PermissionGrantContext, is_grantee,
    },
    registry::{AggregateType, AnyState, Registered as _},
    role::Role,
    user::{By, User, UserStatus},
};
use uuid::Uuid;

use super::{Command, StoreError, Unit, batch::Work};

/// Why the grants of an account end when it can have none any more.
const ACCOUNT: &str = "the account was closed, or is now one that is granted nothing";

/// The context of a decision about a grant. Its time is that of the batch, which is the clock of the database: grants are
/// looked up by the same one, so no server's own clock lengthens or shortens them.
pub(super) async fn context(
    work: &mut Work<'_, '_>,
    id: GrantId,
    grant: &PermissionGrant,
    command: &PermissionGrantCommand,
    unit: &Unit,
) -> Result<PermissionGrantContext, StoreError> {
    let (by, grantee) = match command {
        PermissionGrantCommand::Grant { grantee, by, .. } => (*by, Some(*grantee)),
        PermissionGrantCommand::Revoke { by, .. } => (*by, grant.grant.as_ref().map(|grant| grant.grantee)),
    };
    let actor = match by {
        By::User(user) => holder(work, user).await?,
        By::Key(_) | By::Operator => None,
    };
    let grantee = match grantee {
        Some(user) => holder(work, user).await?,
        None => None,
    };
    Ok(PermissionGrantContext { now: work.now(), id, reason: unit.metadata.reason.clone(), actor, grantee })
}

/// An active account and what it may do by itself, as the log has it now.
async fn holder(work: &mut Work<'_, '_>, id: UserId) -> Result<Option<Holder>, StoreError> {
    let Some(user) = work.state::<User>(id.0).await? else { return Ok(None) };
    if user.status != UserStatus::Active {
        return Ok(None);
    }
    let role = match user.role.role_id {
        Some(role) => work.state::<Role>(role.0).await?,
        None => None,
    };
    let tier = user.role.tier;
    let held = tier.with(user.modules.iter().copied(), role.as_ref().map(|role| &role.permissions));
    Ok(Some(Holder { tier, held }))
}

/// Whether an aggregate is an account that grants hold for.
pub(super) fn can_have(state: &AnyState) -> bool {
    User::of(state).is_some_and(|user| user.status == UserStatus::Active && is_grantee(user.role.tier))
}

impl Work<'_, '_> {
    /// Revokes what an account was granted that can have nothing granted any more, in the very unit that made it so: they
    /// do not come back with the account, and the log says when and with what they ended.
    pub(super) async fn end_grants(
        &mut self,
        grantee: UserId,
        metadata: &Metadata,
    ) -> Result<(), StoreError> {
        // The platform's people have none.
        if self.schema.tenant_id().is_none() {
            return Ok(());
        }
        for id in self.active_grants(grantee).await? {
            let before = self.entry(id, AggregateType::PermissionGrant).await?;
            let revoke = PermissionGrantCommand::Revoke { by: By::Operator, if_active: true };
            let metadata = Metadata { reason: Some(ACCOUNT.into()), ..metadata.clone() };
            let unit = Unit::of(Command::to(id, revoke), metadata);
            let decided = super::decide::decide(self, &before.state, &unit.commands[0], &unit).await?;
            self.record(id, before, decided, &unit.metadata, None).await?;
        }
        Ok(())
    }

    /// The grants that somebody has now, of the read model and of this batch.
    async fn active_grants(&mut self, grantee: UserId) -> Result<Vec<Uuid>, StoreError> {
        let now = self.now();
        let sql = self.schema.sql(
            "SELECT id FROM {s}.permission_grants WHERE grantee = $1 AND NOT revoked AND expires_at > now() ORDER BY id",
        );
        let mut found: Vec<Uuid> = sqlx::query_scalar(&sql)
            .bind(grantee.0)
            .fetch_all(&mut **self.tx)
            .await
            .map_err(StoreError::db("look up somebody's grants"))?;
        let in_batch = self.touched_states().filter(|(_, _, after)| {
            PermissionGrant::of(after).is_some_and(|grant| {
                grant.grant.as_ref().is_some_and(|it| it.grantee == grantee)
                    && grant.state(now) == Some(GrantState::Active)
            })
        });
        found.extend(in_batch.map(|(id, _, _)| id));
        // The decision passes over those that this batch revoked, and a repeated one.
        Ok(found)
    }
}
