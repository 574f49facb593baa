//! The permissions that somebody has for a while because somebody else granted them.

use chrono::{DateTime, Utc};
use daybook_domain::{
    GrantId, UserId,
    permission::{Permission, Tier},
    permission_grant::{Holder, check},
};
use uuid::Uuid;

use super::{directory::effective, principal::Granted};
use crate::tenancy::{TenancyError, TenantTx};

/// The grants that hold for somebody of this tier now: in their time, not revoked, and still the grantor's to give. A
/// grantor who is let go, or loses the permission or the tier, takes along what they granted.
///
/// The time is the database's, as it was when the grant was made: a server whose own clock is off would otherwise end
/// grants early, or let them outlive their end.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn live(tx: &mut TenantTx<'_>, grantee: UserId, tier: Tier) -> Result<Vec<Granted>, TenancyError> {
    type Row =
        (Uuid, String, DateTime<Utc>, Option<Uuid>, Option<String>, Option<Vec<String>>, Option<Vec<String>>);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT g.id, g.permission, g.expires_at, g.grantor, a.tier, a.modules, r.permissions
         FROM permission_grants g
         LEFT JOIN users a ON a.id = g.grantor AND a.status = 'active'
         LEFT JOIN roles r ON r.id = a.role_id
         WHERE g.grantee = $1 AND NOT g.revoked AND g.expires_at > now()
         ORDER BY g.id",
    )
    .bind(grantee.0)
    .fetch_all(&mut **tx)
    .await
    .map_err(TenancyError::db("look up somebody's grants"))?;
    let counts = |(id, permission, expires_at, grantor, its_tier, modules, role): Row| {
        let grantor = match grantor {
            None => Holder::operator(),
            // No tier: no active account. One that this version does not know grants nothing.
            Some(_) => {
                let tier = Tier::parse(&its_tier?)?;
                Holder { tier, held: effective(tier, &modules.unwrap_or_default(), role.as_deref()) }
            }
        };
        let permission: Permission = permission.parse().ok()?;
        check(&grantor, tier, permission).ok()?;
        Some(Granted { id: GrantId(id), permission, expires_at })
    };
    Ok(rows.into_iter().filter_map(counts).collect())
}
