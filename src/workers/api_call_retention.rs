//! Drops the months of the access log that are older than the tenant's plan keeps its history, also of tenants that are
//! not active.

use std::time::Duration;

use chrono::{DateTime, Months, NaiveDate, NaiveTime, TimeDelta, Utc};
use daybook_domain::{TenantId, tenant::DOWNGRADE_GRACE};
use daybook_projections::Schema;
use sqlx::Executor as _;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{WorkerSettings, wait};
use crate::{
    eventstore::EventStore,
    tenancy::{Database, TenancyError},
};

/// Nodes that start often must come to it as well.
const FIRST: Duration = Duration::from_secs(60);
const PREFIX: &str = "api_calls_";

/// Runs until it is stopped.
pub async fn run(store: EventStore, settings: WorkerSettings, stop: CancellationToken) {
    let mut pause = FIRST.min(settings.retention);
    while !wait(pause, &stop).await {
        pause = settings.retention;
        match drop_expired(store.database(), crate::clock::now()).await {
            Ok(0) => {}
            Ok(dropped) => tracing::info!(dropped, "months of the access log were past retention"),
            Err(error) => {
                tracing::warn!(
                    worker = "api-call-retention",
                    error = &error as &dyn std::error::Error,
                    "failed"
                );
            }
        }
    }
}

/// Drops every month that had ended so long before `now`; answers how many. The role of a schema cannot: what it has
/// written it cannot take back.
///
/// # Errors
/// When PostgreSQL refuses; what was dropped before stays so.
pub async fn drop_expired(database: &Database, now: DateTime<Utc>) -> Result<u64, TenancyError> {
    let attempted = "drop old months of the access log";
    let months: Vec<(Uuid, i32, String)> = sqlx::query_as(
        // As `retention` has it: the plan's days, or for a while the most of a plan that was left.
        "SELECT t.id, greatest(p.audit_history_days, (
                    SELECT max(left_plan.audit_history_days)
                    FROM jsonb_to_recordset(t.ended_plans) AS ended (plan text, at timestamptz)
                    JOIN daybook_platform.plans left_plan ON left_plan.id = ended.plan
                    WHERE ended.at + make_interval(days => $2) > $1
                )), month.relname::text
         FROM daybook_platform.tenants t
         JOIN daybook_platform.plans p ON p.id = t.plan
         JOIN pg_namespace n ON n.nspname = 't_' || replace(t.id::text, '-', '')
         JOIN pg_class calls ON calls.relnamespace = n.oid AND calls.relname = 'api_calls'
         JOIN pg_inherits i ON i.inhparent = calls.oid
         JOIN pg_class month ON month.oid = i.inhrelid
         ORDER BY t.id, month.relname",
    )
    .bind(now)
    .bind(i32::try_from(DOWNGRADE_GRACE.num_days()).unwrap_or(0))
    .fetch_all(database.owner())
    .await
    .map_err(TenancyError::db(attempted))?;
    let mut dropped = 0;
    for (tenant, days, table) in months {
        if ended(&table).is_none_or(|end| end + TimeDelta::days(days.into()) > now) {
            continue;
        }
        let schema = Schema::tenant(TenantId(tenant));
        let mut tx = database.owner().begin().await.map_err(TenancyError::db(attempted))?;
        // Who writes to the log waits behind this; rather than for long, it is done the next time.
        let sql = format!("SET LOCAL lock_timeout = '2s'; DROP TABLE IF EXISTS {schema}.{table}");
        match tx.execute(sql.as_str()).await {
            Ok(_) => tx.commit().await.map_err(TenancyError::db(attempted))?,
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(%schema, table, error, "a month of the access log is not dropped yet");
                continue;
            }
        }
        dropped += 1;
    }
    Ok(dropped)
}

/// When the month of a partition was over; `None` for what is none of ours.
fn ended(table: &str) -> Option<DateTime<Utc>> {
    let digits = table.strip_prefix(PREFIX).filter(|digits| digits.len() == 6)?;
    let (year, month) = (digits[..4].parse().ok()?, digits[4..].parse().ok()?);
    let after = NaiveDate::from_ymd_opt(year, month, 1)?.checked_add_months(Months::new(1))?;
    Some(after.and_time(NaiveTime::MIN).and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_over_when_the_next_begins() {
        assert_eq!(ended("api_calls_202612").unwrap().to_string(), "2027-01-01 00:00:00 UTC");
        for wrong in ["api_calls_202613", "api_calls_20261", "api_calls_", "events_202612", "api_calls_2026é"]
        {
            assert_eq!(ended(wrong), None, "{wrong}");
        }
    }
}
