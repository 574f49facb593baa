//! What the log keeps beside an event: who, on whose behalf, why, from where, under which request and cause.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::registry::{AggregateType, AnyEvent};

/// The metadata of a command, copied to each event it decides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// The principal that acted (`token:<id>`, `user:<id>`, `system:hold-expiry`, `cli`).
    pub actor: String,
    /// The principal it was done for, while hijacking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<String>,
    /// The actor's role then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The support mode (`real`), when in a support session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub support_mode: Option<String>,
    /// Why, in the actor's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The client's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// The client's user agent, cut to 200 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// Where the command came in (`api`, `cli`, `import`, `system`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The request it came with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Uuid>,
    /// What belongs together (a trace id, an import).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// The event or command that caused this one, or the grant by which the actor could (`permission_grant:<id>`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causation_id: Option<String>,
}

impl Metadata {
    /// The metadata of something the system itself does.
    pub fn system(actor: &str) -> Self {
        Self { actor: format!("system:{actor}"), source: Some("system".into()), ..Self::default() }
    }
}

/// An event as it stands in a log.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedEvent {
    /// Its place in the tenant's log: 1, 2, 3 … without a gap.
    pub position: i64,
    /// The event's own id.
    pub event_id: Uuid,
    /// The aggregate's type.
    pub aggregate_type: AggregateType,
    /// The aggregate's id.
    pub aggregate_id: Uuid,
    /// Its place in the aggregate's stream: 1, 2, 3 …
    pub sequence: i64,
    /// When it was written, by the database's clock.
    pub recorded_at: DateTime<Utc>,
    /// When it happened; the same, except for imported history.
    pub occurred_at: DateTime<Utc>,
    /// Who, why, from where.
    pub metadata: Metadata,
    /// What happened, upcast to today's shape.
    pub event: AnyEvent,
}
