//! Drops what is older than the tenant's plan keeps its history: months of the logs that are kept by months, and messages
//! that were sent or given up. Also of tenants that are not active.

use std::time::Duration;

use chrono::{DateTime, Months, NaiveDate, NaiveTime, TimeDelta, Utc};
use daybook_domain::{TenantId, tenant::DOWNGRADE_GRACE};
use daybook_projections::{Schema, months::MonthlyLog};
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{WorkerSettings, wait};
use crate::{
    eventstore::EventStore,
    mail::{
        outbox::{self, OutboxError},
        sealer::KeySealer,
    },
    tenancy::{Database, TenancyError},
};

/// Nodes that start often must come to it as well.
const FIRST: Duration = Duration::from_secs(60);
/// For how many days the platform's own messages are kept.
const PLATFORM_DAYS: i32 = 90;
/// Whether a legal hold keeps a tenant's records from going: one on a customer does as well, who may be in any of them. Asked in
/// the transaction that takes them away, and under the lock of the log's head: a hold is placed before it, and seen, or after it.
async fn is_held(connection: &mut PgConnection, schema: &Schema) -> Result<bool, sqlx::Error> {
    // Neither has the platform's log holds, nor do its messages wait for any.
    if schema.tenant_id().is_none() {
        return Ok(false);
    }
    sqlx::query(&schema.sql("SELECT position FROM {s}.log_head FOR SHARE")).execute(&mut *connection).await?;
    // A statement of its own, whose snapshot is taken when the lock is had.
    let sql = schema.sql("SELECT EXISTS (SELECT FROM {s}.legal_holds WHERE released_at IS NULL)");
    sqlx::query_scalar(&sql).fetch_one(connection).await
}

/// For how many days the history of a tenant `t` on the plan `p` is kept at `$1`, as `retention` has it: the plan's days, or
/// for `$2` days the most of a plan that was left.
const KEPT: &str = "greatest(p.audit_history_days, (
        SELECT max(left_plan.audit_history_days)
        FROM jsonb_to_recordset(t.ended_plans) AS ended (plan text, at timestamptz)
        JOIN daybook_platform.plans left_plan ON left_plan.id = ended.plan
        WHERE ended.at + make_interval(days => $2) > $1))";
/// Messages that are sealed or deleted in one statement.
const BATCH: i64 = 1_000;

/// Runs until it is stopped.
pub async fn run(store: EventStore, settings: WorkerSettings, stop: CancellationToken) {
    let mut pause = FIRST.min(settings.retention);
    while !wait(pause, &stop).await {
        pause = settings.retention;
        // By the clock that the rows have their times from, not by this node's.
        let now = match database_now(store.database()).await {
            Ok(now) => now,
            Err(error) => {
                failed(&error);
                continue;
            }
        };
        match drop_expired(store.database(), now).await {
            Ok(0) => {}
            Ok(dropped) => tracing::info!(dropped, "months of logs were past retention"),
            Err(error) => failed(&error),
        }
        match messages(&store, now).await {
            Ok(0) => {}
            Ok(deleted) => tracing::info!(deleted, "messages were past retention"),
            Err(error) => failed(&error),
        }
    }
}

async fn database_now(database: &Database) -> Result<DateTime<Utc>, TenancyError> {
    sqlx::query_scalar("SELECT clock_timestamp()")
        .fetch_one(database.owner())
        .await
        .map_err(TenancyError::db("ask for the time"))
}

fn failed(error: &(dyn std::error::Error + 'static)) {
    tracing::warn!(worker = "log-retention", error, "failed");
}

/// Drops every month that had ended so long before `now`; answers how many. The role of a schema cannot: what it has
/// written it cannot take back.
///
/// # Errors
/// When PostgreSQL refuses; what was dropped before stays so.
pub async fn drop_expired(database: &Database, now: DateTime<Utc>) -> Result<u64, TenancyError> {
    let attempted = "drop old months of logs";
    let logs: Vec<&str> = MonthlyLog::ALL.iter().map(|log| log.table()).collect();
    let months: Vec<(Uuid, i32, String, String)> = sqlx::query_as(&format!(
        "SELECT t.id, {KEPT}, log.relname::text, month.relname::text
         FROM daybook_platform.tenants t
         JOIN daybook_platform.plans p ON p.id = t.plan
         JOIN pg_namespace n ON n.nspname = 't_' || replace(t.id::text, '-', '')
         JOIN pg_class log ON log.relnamespace = n.oid AND log.relname = ANY($3)
         JOIN pg_inherits i ON i.inhparent = log.oid
         JOIN pg_class month ON month.oid = i.inhrelid
         WHERE log.relkind = 'p'
         ORDER BY t.id, month.relname",
    ))
    .bind(now)
    .bind(grace())
    .bind(logs)
    .fetch_all(database.owner())
    .await
    .map_err(TenancyError::db(attempted))?;
    let mut dropped = 0;
    for (tenant, days, log, table) in months {
        if ended(&log, &table).is_none_or(|end| end + TimeDelta::days(days.into()) > now) {
            continue;
        }
        let schema = Schema::tenant(TenantId(tenant));
        let mut tx = database.owner().begin().await.map_err(TenancyError::db(attempted))?;
        match drop_unless_held(&mut tx, &schema, &table).await {
            Ok(true) => tx.commit().await.map_err(TenancyError::db(attempted))?,
            Ok(false) => {
                tx.rollback().await.map_err(TenancyError::db(attempted))?;
                continue;
            }
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(%schema, table, error, "a month of a log is not dropped yet");
                continue;
            }
        }
        dropped += 1;
    }
    Ok(dropped)
}

/// Drops a month, unless a hold keeps it: then `false`, and it is to be rolled back.
async fn drop_unless_held(
    connection: &mut PgConnection,
    schema: &Schema,
    table: &str,
) -> Result<bool, sqlx::Error> {
    // Who writes to the log waits behind this; rather than for long, it is done the next time. The head is locked last: commands
    // do not wait for those who wait for the month.
    let sql = format!("SET LOCAL lock_timeout = '2s'; DROP TABLE IF EXISTS {schema}.{table}");
    connection.execute(sql.as_str()).await?;
    Ok(!is_held(connection, schema).await?)
}

/// For how many days the history of a larger plan counts that was left.
fn grace() -> i32 {
    i32::try_from(DOWNGRADE_GRACE.num_days()).unwrap_or(0)
}

/// When the month of a partition was over; `None` for what is none of ours.
fn ended(log: &str, table: &str) -> Option<DateTime<Utc>> {
    let digits = table.strip_prefix(log)?.strip_prefix('_').filter(|digits| digits.len() == 6)?;
    let (year, month) = (digits.get(..4)?.parse().ok()?, digits.get(4..)?.parse().ok()?);
    let after = NaiveDate::from_ymd_opt(year, month, 1)?.checked_add_months(Months::new(1))?;
    Some(after.and_time(NaiveTime::MIN).and_utc())
}

/// Deletes messages that are past retention, in tenants' schemas and the platform's; answers how many. Seals to whom messages
/// go where that is kept in the clear, from before it was sealed.
///
/// # Errors
/// When PostgreSQL refuses; what was deleted before stays so.
pub async fn messages(store: &EventStore, now: DateTime<Utc>) -> Result<u64, OutboxError> {
    let owner = store.database().owner();
    let tenants: Vec<(Uuid, i32)> = sqlx::query_as(&format!(
        "SELECT t.id, {KEPT}
         FROM daybook_platform.tenants t
         JOIN daybook_platform.plans p ON p.id = t.plan
         JOIN pg_namespace n ON n.nspname = 't_' || replace(t.id::text, '-', '')
         ORDER BY t.id",
    ))
    .bind(now)
    .bind(grace())
    .fetch_all(owner)
    .await?;
    let tenants = tenants.into_iter().map(|(id, days)| (Schema::tenant(TenantId(id)), days));
    let sealer = KeySealer(store.keys().clone());
    let mut deleted = 0;
    for (schema, days) in std::iter::once((Schema::platform(), PLATFORM_DAYS)).chain(tenants) {
        let mut connection = owner.acquire().await?;
        let before = now - TimeDelta::days(days.into());
        loop {
            // A transaction each: a hold that is placed meanwhile keeps what is left.
            let mut tx = connection.begin().await?;
            if is_held(&mut tx, &schema).await? {
                tx.rollback().await?;
                break;
            }
            let some = outbox::prune(&mut tx, &schema, before, BATCH).await?;
            tx.commit().await?;
            deleted += some;
            if some < BATCH.unsigned_abs() {
                break;
            }
        }
        while outbox::seal_recipients(&mut connection, &schema, &sealer, BATCH).await? > 0 {}
    }
    Ok(deleted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_over_when_the_next_begins() {
        let of = |table| ended("api_calls", table);
        assert_eq!(of("api_calls_202612").unwrap().to_string(), "2027-01-01 00:00:00 UTC");
        assert!(ended("refused_logins", "refused_logins_202611").is_some());
        for wrong in ["api_calls_202613", "api_calls_20261", "api_calls_", "events_202612", "api_calls_2026é"]
        {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
