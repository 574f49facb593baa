//! Counters in PostgreSQL: fixed windows by the database's clock, so that nodes share them and agree on the time.

use std::{sync::Arc, time::Duration};

use daybook_projections::Schema;
use uuid::Uuid;

use super::MAX_WINDOW;
use crate::{
    http::problem::{Problem, Result},
    keys::Keys,
    tenancy::{Access, Database, TenancyError, TenantTx},
};

/// The outcome of one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Whether it is within the limit.
    pub allowed: bool,
    /// How many more are.
    pub remaining: u32,
    /// When the window ends.
    pub reset_after: Duration,
}

/// The counters.
#[derive(Clone)]
pub struct Counters {
    database: Database,
    keys: Arc<Keys>,
}

impl std::fmt::Debug for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counters").finish_non_exhaustive()
    }
}

impl Counters {
    /// The counters of a database.
    pub fn new(database: Database, keys: Arc<Keys>) -> Self {
        Self { database, keys }
    }

    /// Counts one more, in one statement: of any number at once, exactly as many as the limit are allowed. A window
    /// begins with its first hit, and is not made longer by those that are refused.
    ///
    /// # Errors
    /// When the counter cannot be written.
    pub async fn hit(&self, bucket: &str, key: &str, window: Duration, limit: u32) -> Result<Hit> {
        // The last branch keeps a counter that is far beyond any limit from overflowing.
        let (count, left): (i32, f64) = self
            .run(
                "INSERT INTO daybook_platform.rate_counters AS c (bucket, key, window_start, count)
                 VALUES ($1, $2, now(), 1)
                 ON CONFLICT (bucket, key) DO UPDATE SET
                     window_start = CASE WHEN c.window_start + make_interval(secs => $3) > now()
                                         THEN c.window_start ELSE now() END,
                     count = CASE WHEN c.window_start + make_interval(secs => $3) <= now() THEN 1
                                  WHEN c.count < 2000000000 THEN c.count + 1
                                  ELSE c.count END
                 RETURNING c.count,
                     extract(epoch FROM c.window_start + make_interval(secs => $3) - now())::double precision",
                Access::Write,
                (bucket, key, window),
            )
            .await?
            .unwrap_or((i32::MAX, window.as_secs_f64()));
        Ok(outcome(u32::try_from(count).unwrap_or(u32::MAX), left, window, limit))
    }

    /// What is left, without counting.
    ///
    /// # Errors
    /// When the counter cannot be read.
    pub async fn look(&self, bucket: &str, key: &str, window: Duration, limit: u32) -> Result<Hit> {
        let found: Option<(i32, f64)> = self
            .run(
                "SELECT count,
                     extract(epoch FROM window_start + make_interval(secs => $3) - now())::double precision
                 FROM daybook_platform.rate_counters
                 WHERE bucket = $1 AND key = $2 AND window_start + make_interval(secs => $3) > now()",
                Access::Read,
                (bucket, key, window),
            )
            .await?;
        let (count, left) = found.unwrap_or((0, 0.0));
        let hit = outcome(u32::try_from(count).unwrap_or(u32::MAX), left, window, limit);
        Ok(Hit { allowed: hit.remaining > 0, ..hit })
    }

    async fn run(
        &self,
        sql: &'static str,
        access: Access,
        (bucket, key, window): (&str, &str, Duration),
    ) -> Result<Option<(i32, f64)>> {
        let hash = self.keys.hmac_unique(&format!("rate limit {bucket}"), Uuid::nil(), key.as_bytes());
        let mut tx =
            TenantTx::begin(self.database.app(), &Schema::platform(), access).await.map_err(closed)?;
        let row = sqlx::query_as(sql)
            .bind(bucket)
            .bind(hash.as_slice())
            .bind(window.min(MAX_WINDOW).as_secs_f64())
            .fetch_optional(&mut *tx)
            .await
            .map_err(|error| closed(TenancyError::db("count for a rate limit")(error)))?;
        match access {
            Access::Write => tx.commit().await.map_err(closed)?,
            Access::Read | Access::ReadConsistent => tx.release(),
        }
        Ok(row)
    }
}

/// Without a count nobody passes; whatever the reason is, it may be gone in a moment.
pub(super) fn closed(error: TenancyError) -> Problem {
    tracing::warn!(error = &error as &dyn std::error::Error, "a rate limit could not be counted");
    Problem::unavailable("The request cannot be counted right now.")
}

fn outcome(count: u32, left: f64, window: Duration, limit: u32) -> Hit {
    let reset_after = Duration::try_from_secs_f64(left.max(0.0)).unwrap_or(window).min(window);
    Hit { allowed: count <= limit, remaining: limit.saturating_sub(count), reset_after }
}

/// Deletes the counters whose window is over, however long it was; answers how many.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn prune(database: &Database) -> Result<u64, TenancyError> {
    let mut tx = TenantTx::begin(database.app(), &Schema::platform(), Access::Write).await?;
    let deleted = sqlx::query(
        "DELETE FROM daybook_platform.rate_counters WHERE window_start < now() - make_interval(secs => $1)",
    )
    .bind(MAX_WINDOW.as_secs_f64())
    .execute(&mut *tx)
    .await
    .map_err(TenancyError::db("delete old counters of rate limits"))?
    .rows_affected();
    tx.commit().await?;
    Ok(deleted)
}
