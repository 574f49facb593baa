//! The audit trail itself, as an aggregate of its own log: what was pruned of it, and under which rule.
//!
//! Pruning is what takes events away, so it is an event first. One stream a log.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Decider, DomainError, Event, TenantId, carried::CarriedOver, decimal, impl_cqrs_aggregate};

/// The prunings the state remembers; the events themselves are pruned in their time like all others.
pub const REMEMBERED: usize = 100;

/// The state of an audit trail.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AuditTrail {
    /// The log's id, once anything was pruned.
    pub id: Option<TenantId>,
    /// The last prunings, oldest first; at most [`REMEMBERED`].
    pub prunings: Vec<Pruning>,
}

impl AuditTrail {
    /// The id of the one stream a log has. Not the log's own: the settings have that.
    pub fn stream_id(log: TenantId) -> Uuid {
        Uuid::new_v5(&log.0, Self::TYPE.as_bytes())
    }

    /// The position up to which the log is pruned; 0 when it never was.
    pub fn pruned_through(&self) -> i64 {
        self.prunings.last().map_or(0, |last| last.through_position)
    }
}

/// One pruning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruning {
    /// The position up to which, and with which, events go.
    #[serde(with = "decimal")]
    pub through_position: i64,
    /// What was recorded before then was older than the history the plan keeps.
    pub cut_at: DateTime<Utc>,
    /// The days of history the plan kept.
    pub history_days: u32,
    /// How many events went with this one.
    #[serde(with = "decimal")]
    pub events: i64,
    /// When it was decided.
    pub at: DateTime<Utc>,
    /// The root of the hash tree over every leaf up to there, in hex, where the ledger had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaf_hash_root: Option<String>,
}

/// What can be asked of an audit trail.
#[derive(Clone, Debug)]
pub enum AuditTrailCommand {
    /// Let go of the events up to a position.
    Prune {
        /// The position.
        through_position: i64,
        /// What was recorded before then is older than the history kept.
        cut_at: DateTime<Utc>,
        /// The days of history kept.
        history_days: u32,
        /// The root of the hash tree up to there, in hex.
        leaf_hash_root: Option<String>,
    },
}

/// What can have happened to an audit trail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum AuditTrailEvent {
    /// The events up to a position were let go of.
    #[serde(rename = "audit.pruned")]
    Pruned(Pruned),
    /// Its state, when what was before was pruned.
    #[serde(rename = "audit_trail.carried_over")]
    CarriedOver(Box<CarriedOver<AuditTrail>>),
}

/// A pruning of a log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pruned {
    /// The log.
    pub log_id: TenantId,
    /// What went.
    #[serde(flatten)]
    pub pruning: Pruning,
}

impl Event for AuditTrailEvent {
    const TYPES: &'static [(&'static str, u16)] = &[("audit.pruned", 1), ("audit_trail.carried_over", 1)];

    fn type_name(&self) -> &'static str {
        match self {
            Self::Pruned(_) => "audit.pruned",
            Self::CarriedOver(_) => "audit_trail.carried_over",
        }
    }
}

/// What a decision about an audit trail needs to know.
#[derive(Clone, Copy, Debug)]
pub struct AuditTrailContext {
    /// The time of the decision.
    pub now: DateTime<Utc>,
    /// The log's id.
    pub id: TenantId,
    /// The position of the log's last event.
    pub head: i64,
    /// What still stands in the way of pruning, by its name.
    pub hindrance: Option<&'static str>,
}

impl Decider for AuditTrail {
    const TYPE: &'static str = "audit_trail";
    type Command = AuditTrailCommand;
    type Event = AuditTrailEvent;
    type Context = AuditTrailContext;

    fn decide(
        &self,
        command: &AuditTrailCommand,
        context: &AuditTrailContext,
    ) -> Result<Vec<AuditTrailEvent>, DomainError> {
        let AuditTrailCommand::Prune { through_position, cut_at, history_days, leaf_hash_root } = command;
        let before = self.pruned_through();
        // Another pruning was there first.
        if *through_position <= before {
            return Ok(Vec::new());
        }
        if *through_position > context.head || *cut_at > context.now {
            return Err(DomainError::wrong_state("not_yet", "what has not happened is not pruned"));
        }
        if let Some(hindrance) = context.hindrance {
            return Err(DomainError::wrong_state(hindrance, "the log is not pruned now"));
        }
        Ok(vec![AuditTrailEvent::Pruned(Pruned {
            log_id: context.id,
            pruning: Pruning {
                through_position: *through_position,
                cut_at: *cut_at,
                history_days: *history_days,
                events: through_position - before,
                at: context.now,
                leaf_hash_root: leaf_hash_root.clone(),
            },
        })])
    }

    fn apply(&mut self, event: &AuditTrailEvent) {
        match event {
            AuditTrailEvent::Pruned(Pruned { log_id, pruning }) => {
                self.id = Some(*log_id);
                self.prunings.push(pruning.clone());
                let excess = self.prunings.len().saturating_sub(REMEMBERED);
                self.prunings.drain(..excess);
            }
            AuditTrailEvent::CarriedOver(carried) => carried.fold_into(self),
        }
    }
}

impl_cqrs_aggregate!(AuditTrail, AuditTrailEvent);
