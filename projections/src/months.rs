//! Logs beside the log of events that are kept in partitions of a month, which are dropped whole.

use chrono::NaiveDate;
use sqlx::PgConnection;

/// Such a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MonthlyLog {
    /// Calls made with API keys.
    ApiCalls,
    /// Sign-ins and new passwords that were refused.
    RefusedLogins,
    /// Requests that failed, and refusals that matter.
    RequestErrors,
}

impl MonthlyLog {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::ApiCalls, Self::RefusedLogins, Self::RequestErrors];

    /// Its table; that of a month has `_YYYYMM` behind it.
    pub fn table(self) -> &'static str {
        match self {
            Self::ApiCalls => "api_calls",
            Self::RefusedLogins => "refused_logins",
            Self::RequestErrors => "request_errors",
        }
    }
}

/// Makes the partition of a month, unless it is there.
///
/// # Errors
/// When PostgreSQL refuses, such as for months long past.
pub async fn ensure_partition(
    connection: &mut PgConnection,
    log: MonthlyLog,
    month: NaiveDate,
) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT ensure_month($1, $2)").bind(log.table()).bind(month).execute(connection).await?;
    Ok(())
}
