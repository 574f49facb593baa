//! The system's clock, for the edges: how long a credential holds, what a log line is dated. Decisions take their time
//! from the database.

use chrono::{DateTime, Utc};

/// The time by the system's clock.
pub fn now() -> DateTime<Utc> {
    DateTime::<Utc>::from(std::time::SystemTime::now())
}
