//! What a tenant's plan leaves readable of its log: the one place where the cut is computed.
//!
//! The cut is the database's clock minus the days of the plan, to the microsecond: what was recorded at it or later is
//! readable, what was recorded before is not, whether or not it has been pruned. For [`DOWNGRADE_GRACE`] after a move to
//! a smaller plan, the longest of the plans that were left counts, and exports are still offered.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use daybook_domain::{TenantId, tenant::DOWNGRADE_GRACE};
use daybook_projections::{
    Schema,
    log::{self, Readable},
};
use serde::Deserialize;
use sqlx::{PgConnection, types::Json};

use crate::tenancy::{Access, Database, TenancyError, TenantTx};

/// What is read of a tenant `t` on the plan `p` for its [`Retention`], in this order.
pub(crate) const COLUMNS: &str = "t.plan, p.audit_history_days, p.audit_export,
    (SELECT coalesce(jsonb_agg(jsonb_build_object('days', left_plan.audit_history_days, 'export', left_plan.audit_export,
                                                  'at', ended.at)), '[]')
     FROM jsonb_to_recordset(t.ended_plans) AS ended (plan text, at timestamptz)
     JOIN daybook_platform.plans left_plan ON left_plan.id = ended.plan), clock_timestamp()";

/// The columns as they are read.
pub(crate) type Columns = (String, i32, bool, Json<Vec<EndedAllowance>>, DateTime<Utc>);

/// How long it is remembered where the readable part of a log begins. It only ever begins later, so what is remembered
/// costs at most a look at what has passed the cut since.
const FLOOR_FRESH: Duration = Duration::from_secs(10);
const MAX_FLOORS: usize = 10_000;

/// What a plan allowed that a tenant left.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct EndedAllowance {
    days: u32,
    export: bool,
    at: DateTime<Utc>,
}

/// What a tenant's plan, and those it left not long ago, keep of its history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The plan.
    pub plan: String,
    /// For how many days it keeps history.
    pub history_days: u32,
    /// Whether it has exports.
    pub export: bool,
    ended: Vec<EndedAllowance>,
    /// The database's clock, and when it was read.
    clock: (DateTime<Utc>, Instant),
}

/// The longer history that a tenant still has after a move to a smaller plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grace {
    /// Until then.
    pub until: DateTime<Utc>,
    /// The days that count meanwhile.
    pub previous_days: u32,
}

/// By what a tenant may export its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportRight {
    /// By its plan.
    Plan,
    /// By a plan it left, until then.
    Offered(DateTime<Utc>),
}

impl Retention {
    /// From what was just read of the database.
    pub(crate) fn new((plan, days, export, ended, clock): Columns) -> Self {
        let history_days = u32::try_from(days).unwrap_or(0);
        Self { plan, history_days, export, ended: ended.0, clock: (clock, Instant::now()) }
    }

    /// Of a tenant, active or not; `None` when there is none of this id.
    ///
    /// # Errors
    /// When PostgreSQL refuses.
    pub async fn of(database: &Database, tenant: TenantId) -> Result<Option<Self>, TenancyError> {
        let mut tx = TenantTx::begin(database.app(), &Schema::platform(), Access::Read).await?;
        let row: Option<Columns> = sqlx::query_as(&format!(
            "SELECT {COLUMNS} FROM daybook_platform.tenants t JOIN daybook_platform.plans p ON p.id = t.plan
             WHERE t.id = $1"
        ))
        .bind(tenant.0)
        .fetch_optional(&mut *tx)
        .await
        .map_err(TenancyError::db("look up what a tenant's plan keeps"))?;
        tx.release();
        Ok(row.map(Self::new))
    }

    /// The time by the database's clock.
    pub fn now(&self) -> DateTime<Utc> {
        let (clock, read) = self.clock;
        let passed = i64::try_from(read.elapsed().as_micros()).unwrap_or(i64::MAX);
        clock.checked_add_signed(TimeDelta::microseconds(passed)).unwrap_or(clock)
    }

    /// For how many days history counts at a time: those of the plan, or the most of a plan that was left not long ago.
    pub fn days(&self, now: DateTime<Utc>) -> u32 {
        self.grace(now).map_or(self.history_days, |grace| grace.previous_days)
    }

    /// The cut at a time: what was recorded then or later is readable, what was recorded before is not.
    pub fn cut(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        now.checked_sub_signed(TimeDelta::days(self.days(now).into())).map_or(DateTime::UNIX_EPOCH, |cut| {
            // Nothing was recorded before that, and PostgreSQL knows no time much before it.
            cut.max(DateTime::UNIX_EPOCH)
        })
    }

    /// The longer history of a larger plan that was left less than [`DOWNGRADE_GRACE`] ago.
    pub fn grace(&self, now: DateTime<Utc>) -> Option<Grace> {
        self.in_grace(now)
            .filter(|(ended, _)| ended.days > self.history_days)
            .max_by_key(|(ended, until)| (ended.days, *until))
            .map(|(ended, until)| Grace { until, previous_days: ended.days })
    }

    /// By what the tenant may export its log at a time; `None` when it may not.
    pub fn export_right(&self, now: DateTime<Utc>) -> Option<ExportRight> {
        if self.export {
            return Some(ExportRight::Plan);
        }
        let offers = self.in_grace(now).filter(|(ended, _)| ended.export);
        offers.map(|(_, until)| until).max().map(ExportRight::Offered)
    }

    /// What was left not long ago, and until when it still counts: at that instant it does not any more.
    fn in_grace(&self, now: DateTime<Utc>) -> impl Iterator<Item = (&EndedAllowance, DateTime<Utc>)> {
        self.ended
            .iter()
            .filter_map(|ended| Some((ended, ended.at.checked_add_signed(DOWNGRADE_GRACE)?)))
            .filter(move |(_, until)| now < *until)
    }
}

/// Where the readable part of each log began not long ago. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Floors(Arc<Mutex<HashMap<Schema, Floor>>>);

#[derive(Clone, Copy, Debug)]
struct Floor {
    readable: Readable,
    at: Instant,
}

impl Floors {
    /// What a cut leaves of a log, for [`log::page`].
    ///
    /// # Errors
    /// When PostgreSQL refuses.
    pub async fn readable(
        &self,
        connection: &mut PgConnection,
        schema: &Schema,
        cut: DateTime<Utc>,
    ) -> Result<Readable, sqlx::Error> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(schema).copied();
        // A cut that moved back (a larger plan) uncovers what is below.
        if let Some(known) =
            known.filter(|known| known.readable.cut <= cut && known.at.elapsed() < FLOOR_FRESH)
        {
            return Ok(Readable { cut, floor: known.readable.floor });
        }
        let at = Instant::now();
        let readable = Readable { cut, floor: first_at(connection, cut).await? };
        let mut floors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if floors.len() >= MAX_FLOORS {
            floors.clear();
        }
        floors.insert(schema.clone(), Floor { readable, at });
        Ok(readable)
    }
}

/// The first position recorded at a time or later; one past the log's last when there is none.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn first_at(connection: &mut PgConnection, time: DateTime<Utc>) -> Result<i64, sqlx::Error> {
    Ok(log::last_before(connection, time).await? + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(days: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(20_000 + days)
    }

    fn retention(days: i32, export: bool, ended: &[(u32, bool, i64)]) -> Retention {
        let ended = ended.iter().map(|(days, export, left)| EndedAllowance {
            days: *days,
            export: *export,
            at: at(*left),
        });
        Retention::new(("free".into(), days, export, Json(ended.collect()), at(0)))
    }

    #[test]
    fn the_cut_is_the_days_of_the_plan_before_now() {
        let free = retention(90, false, &[]);
        assert_eq!(free.cut(at(0)), at(-90));
        assert_eq!(free.cut(at(0) + TimeDelta::microseconds(1)), at(-90) + TimeDelta::microseconds(1));
        assert_eq!((free.grace(at(0)), free.export_right(at(0))), (None, None));
        assert_eq!(retention(i32::MAX, false, &[]).cut(at(0)), DateTime::UNIX_EPOCH);
        assert_eq!(retention(-1, false, &[]).cut(at(0)), at(0));
        assert!(free.now() >= at(0) && free.now() < at(1));
    }

    #[test]
    fn the_longest_of_the_plans_left_counts_for_two_weeks_to_the_microsecond() {
        let moved = retention(90, false, &[(1_096, true, 0), (365, false, 3), (30, false, 5)]);
        let last = at(14) - TimeDelta::microseconds(1);
        for now in [at(0), at(5), last] {
            assert_eq!(moved.grace(now), Some(Grace { until: at(14), previous_days: 1_096 }));
            assert_eq!(moved.cut(now), now - TimeDelta::days(1_096));
            assert_eq!(moved.export_right(now), Some(ExportRight::Offered(at(14))));
        }
        assert_eq!(moved.grace(at(14)), Some(Grace { until: at(17), previous_days: 365 }));
        assert_eq!(moved.export_right(at(14)), None);
        assert_eq!((moved.grace(at(17)), moved.days(at(17))), (None, 90));
    }

    #[test]
    fn a_larger_plan_has_no_grace_of_a_smaller_one() {
        let grown = retention(1_096, true, &[(90, false, 0)]);
        assert_eq!((grown.grace(at(1)), grown.days(at(1))), (None, 1_096));
        assert_eq!(grown.export_right(at(1)), Some(ExportRight::Plan));
    }
}
