//! What every projection that follows the log is.

use async_trait::async_trait;
use daybook_domain::{envelope::RecordedEvent, registry::AnyEvent};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{Run, booking_history::BookingHistory, calendar::Calendar, logins::Logins, pace::Pace};

/// Every projection that follows a tenant's log. A new one is a line here.
pub static ALL: &[&dyn Projection] = &[&Calendar, &BookingHistory, &Pace, &Logins];

/// The projection of that name.
pub fn find(name: &str) -> Option<&'static dyn Projection> {
    ALL.iter().copied().find(|projection| projection.name() == name)
}

/// A read model that is folded from the log, in order, some time after the events are committed.
#[async_trait]
pub trait Projection: Send + Sync {
    /// Its stable name (`calendar`).
    fn name(&self) -> &'static str;

    /// Bumped when its fold or its tables change their meaning: its rows are then rebuilt.
    fn version(&self) -> i32;

    /// Its tables, all of them and no others': a rebuild clones and replaces these.
    fn tables(&self) -> &'static [&'static str];

    /// Whether an event is of interest.
    fn handles(&self, event: &AnyEvent) -> bool;

    /// Whether folding an event takes the earlier ones of its stream ([`Run::before`]).
    fn looks_back(&self, event: &AnyEvent) -> bool;

    /// Folds events of a run, which follow each other in the log, into the tables that the search path leads to.
    /// Either all of them are folded, or an error is returned and the caller rolls back.
    ///
    /// # Errors
    /// When PostgreSQL refuses or an event does not fit what is there.
    async fn apply(
        &self,
        connection: &mut PgConnection,
        run: &Run,
        events: &[RecordedEvent],
    ) -> Result<(), ProjectionError>;
}

/// Why events could not be folded.
#[derive(Debug, thiserror::Error)]
pub enum ProjectionError {
    /// PostgreSQL refused or is away.
    #[error("write a read model")]
    Database(#[from] sqlx::Error),
    /// A state or an event is not of the shape this binary knows.
    #[error("read a stored state")]
    Shape(#[from] serde_json::Error),
    /// The event presumes something this read model has not seen.
    #[error("{event_type} of {aggregate_id} at position {position}: {problem}")]
    DoesNotFollow {
        /// The event's type.
        event_type: &'static str,
        /// Whose event it is.
        aggregate_id: Uuid,
        /// Where it is.
        position: i64,
        /// What is missing.
        problem: &'static str,
    },
}

impl ProjectionError {
    /// An event that presumes what is not there.
    pub fn does_not_follow(event: &RecordedEvent, problem: &'static str) -> Self {
        Self::DoesNotFollow {
            event_type: event.event.type_name(),
            aggregate_id: event.aggregate_id,
            position: event.position,
            problem,
        }
    }

    /// Whether the events are at fault, so that trying again cannot help; otherwise it is PostgreSQL's state.
    pub fn is_poison(&self) -> bool {
        match self {
            // 22: data exceptions, 23: constraints, 21: one row twice. Everything else may pass by itself.
            Self::Database(sqlx::Error::Database(error)) => {
                error.code().is_some_and(|code| ["21", "22", "23"].contains(&code.get(..2).unwrap_or("")))
            }
            Self::Database(
                sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } | sqlx::Error::Encode(_),
            ) => true,
            Self::Database(_) => false,
            Self::Shape(_) | Self::DoesNotFollow { .. } => true,
        }
    }

    /// What is kept with a parked event. Names codes and constraints, never a value of a row.
    pub fn describe(&self) -> String {
        match self {
            Self::Database(sqlx::Error::Database(error)) => format!(
                "PostgreSQL {} {}",
                error.code().as_deref().unwrap_or("?????"),
                error.constraint().or(error.table()).unwrap_or("")
            )
            .trim_end()
            .to_owned(),
            Self::Shape(error) => format!("{self}: {:?} at column {}", error.classify(), error.column()),
            _ => self.to_string(),
        }
    }
}
