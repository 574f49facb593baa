//! An export: part of the log is handed out as a file, or as a bundle with its proofs.
//!
//! It is in the log before its first byte leaves, and again once its last one was taken. One that nobody ended was not
//! taken whole: whoever wants the rest asks for it from where they are, and for a while nothing of it is pruned.

use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    AuditExportId, Decider, DomainError, Event, PersonalVisitor,
    carried::CarriedOver,
    decimal, impl_cqrs_aggregate,
    registry::{AggregateType, AnyEvent},
};

/// The longest name of a job that events have for an actor.
const MAX_ACTOR_WORD: usize = 40;

/// How long an export that nobody ended counts as in progress.
pub const UNFINISHED_FOR: Duration = Duration::hours(24);

/// What an export is written as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExportFormat {
    /// Comma-separated values.
    Csv,
    /// A JSON object a line.
    #[default]
    Ndjson,
    /// Apache Parquet.
    Parquet,
    /// Leaves, proofs and keys, which verify without us.
    Bundle,
}

impl ExportFormat {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Csv, Self::Ndjson, Self::Parquet, Self::Bundle];

    /// The name in events, read models and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
            Self::Parquet => "parquet",
            Self::Bundle => "bundle",
        }
    }

    /// The one of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|format| format.as_str() == name)
    }
}

/// Which events of the range are exported; every member that is set narrows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportFilter {
    /// Of this event type.
    #[serde(default, rename = "event_type", skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// Of this actor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Of this type of aggregate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregate_type: Option<String>,
    /// Of this aggregate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregate_id: Option<Uuid>,
    /// Recorded then or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<DateTime<Utc>>,
    /// Recorded before then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<DateTime<Utc>>,
}

impl ExportFilter {
    /// Whether it lets everything through: what is exported then has no gap.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it asks by names that events have: it stays in the log for ever, so it is no place for words.
    ///
    /// # Errors
    /// `invalid_value` at the member that is none.
    pub fn check(&self) -> Result<(), DomainError> {
        let none = |pointer, detail| Err(DomainError::field(pointer, "invalid_value", detail));
        let known = |name: &String| AnyEvent::types().iter().any(|(_, known, _)| known == name);
        if self.event_type.as_ref().is_some_and(|name| !known(name)) {
            return none("?type", "there is no such type of event");
        }
        if self.actor.as_deref().is_some_and(|actor| !is_actor(actor)) {
            return none("?actor", "expected an actor as events have it");
        }
        if self.aggregate_type.as_deref().is_some_and(|name| AggregateType::parse(name).is_none()) {
            return none("?aggregate", "there is no such type of aggregate");
        }
        Ok(())
    }
}

/// Whether it is of a form that events have: `user:<id>`, `guest:<digest>`, `system:hold-expiry`, `cli:import`, a side.
fn is_actor(text: &str) -> bool {
    let word = |text: &str| {
        !text.is_empty()
            && text.len() <= MAX_ACTOR_WORD
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
    };
    match text.split_once(':') {
        Some(("user" | "key" | "token", id)) => id.len() == 36 && Uuid::try_parse(id).is_ok(),
        Some(("guest", digest)) => {
            digest.len() == 32 && digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        }
        Some(("system" | "cli", what)) => word(what),
        Some(_) => false,
        None => ["tenant", "platform", "operator"].contains(&text),
    }
}

/// How an export ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportEnded {
    /// How many events were handed out.
    #[serde(with = "decimal")]
    pub rows: u64,
    /// The position of the last of them; where it began, when there were none.
    #[serde(with = "decimal")]
    pub last_position: i64,
    /// Whether that was all that was asked for.
    pub complete: bool,
    /// When.
    pub at: DateTime<Utc>,
}

/// The state of an export.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AuditExport {
    /// Its id, once it was begun.
    pub id: Option<AuditExportId>,
    /// What it is written as.
    pub format: ExportFormat,
    /// It begins past this position.
    pub after: i64,
    /// It ends with this one.
    pub until: i64,
    /// What of it is wanted.
    pub filter: ExportFilter,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// How it ended.
    pub ended: Option<ExportEnded>,
}

/// What can be asked of an export.
#[derive(Clone, Debug)]
pub enum AuditExportCommand {
    /// Begin.
    Start {
        /// What it is written as.
        format: ExportFormat,
        /// It begins past this position.
        after: i64,
        /// It ends with this one.
        until: i64,
        /// What of it is wanted.
        filter: ExportFilter,
    },
    /// Note that it is over.
    End {
        /// How many events were handed out.
        rows: u64,
        /// The position of the last of them; where it began, when there were none.
        last_position: i64,
        /// Whether that was all that was asked for.
        complete: bool,
    },
}

/// What can have happened to an export.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum AuditExportEvent {
    /// It began.
    #[serde(rename = "audit_export.started")]
    Started {
        /// Its id.
        audit_export_id: AuditExportId,
        /// What it is written as.
        format: ExportFormat,
        /// It begins past this position.
        #[serde(with = "decimal")]
        after: i64,
        /// It ends with this one.
        #[serde(with = "decimal")]
        until: i64,
        /// What of it is wanted.
        filter: ExportFilter,
        /// When.
        at: DateTime<Utc>,
    },
    /// It is over.
    #[serde(rename = "audit_export.ended")]
    Ended(ExportEnded),
    /// Its state, when what was before was pruned.
    #[serde(rename = "audit_export.carried_over")]
    CarriedOver(Box<CarriedOver<AuditExport>>),
}

impl Event for AuditExportEvent {
    const TYPES: &'static [(&'static str, u16)] =
        &[("audit_export.started", 1), ("audit_export.ended", 1), ("audit_export.carried_over", 1)];

    fn type_name(&self) -> &'static str {
        match self {
            Self::Started { .. } => "audit_export.started",
            Self::Ended(_) => "audit_export.ended",
            Self::CarriedOver(_) => "audit_export.carried_over",
        }
    }

    fn visit_personal(&mut self, _visit: &mut PersonalVisitor<'_>) {}
}

/// What a decision about an export needs to know.
#[derive(Clone, Debug)]
pub struct AuditExportContext {
    /// The time of the decision, by the database's clock.
    pub now: DateTime<Utc>,
    /// The export's id.
    pub id: AuditExportId,
    /// The log's last position before the decision.
    pub head: i64,
}

impl Decider for AuditExport {
    const TYPE: &'static str = "audit_export";
    type Command = AuditExportCommand;
    type Event = AuditExportEvent;
    type Context = AuditExportContext;

    fn decide(
        &self,
        command: &AuditExportCommand,
        context: &AuditExportContext,
    ) -> Result<Vec<AuditExportEvent>, DomainError> {
        match command {
            AuditExportCommand::Start { .. } if self.id.is_some() => {
                Err(DomainError::AlreadyExists { what: Self::TYPE.into() })
            }
            AuditExportCommand::Start { after, .. } if *after < 0 => {
                Err(DomainError::field("?after", "out_of_range", "a position is not negative"))
            }
            AuditExportCommand::Start { until, .. } if *until > context.head => {
                Err(DomainError::field("?until", "out_of_range", "the log has not reached this position"))
            }
            AuditExportCommand::Start { after, until, .. } if until < after => {
                Err(DomainError::field("?until", "out_of_range", "an export does not end before it begins"))
            }
            AuditExportCommand::Start { format, after, until, filter } => {
                filter.check()?;
                Ok(vec![AuditExportEvent::Started {
                    audit_export_id: context.id,
                    format: *format,
                    after: *after,
                    until: *until,
                    filter: filter.clone(),
                    at: context.now,
                }])
            }
            AuditExportCommand::End { .. } if self.id.is_none() => Err(DomainError::not_found(Self::TYPE)),
            AuditExportCommand::End { .. } if self.ended.is_some() => {
                Err(DomainError::wrong_state("ended", "the export is over"))
            }
            AuditExportCommand::End { last_position, .. }
                if !(self.after..=self.until).contains(last_position) =>
            {
                Err(DomainError::field("/last_position", "out_of_range", "this position was not exported"))
            }
            AuditExportCommand::End { rows, last_position, complete } => {
                Ok(vec![AuditExportEvent::Ended(ExportEnded {
                    rows: *rows,
                    last_position: *last_position,
                    complete: *complete,
                    at: context.now,
                })])
            }
        }
    }

    fn apply(&mut self, event: &AuditExportEvent) {
        match event {
            AuditExportEvent::Started { audit_export_id, format, after, until, filter, at } => {
                *self = Self {
                    id: Some(*audit_export_id),
                    format: *format,
                    after: *after,
                    until: *until,
                    filter: filter.clone(),
                    started_at: *at,
                    ended: None,
                };
            }
            AuditExportEvent::Ended(ended) => self.ended = Some(*ended),
            AuditExportEvent::CarriedOver(carried) => carried.fold_into(self),
        }
    }
}

impl_cqrs_aggregate!(AuditExport, AuditExportEvent);

#[cfg(test)]
mod tests {
    use cqrs_es::test::TestFramework;

    use super::*;

    fn export() -> TestFramework<AuditExport> {
        TestFramework::with(AuditExportContext {
            now: DateTime::UNIX_EPOCH,
            id: AuditExportId::default(),
            head: 100,
        })
    }

    fn start(after: i64, until: i64) -> AuditExportCommand {
        let filter = ExportFilter { event_type: Some("booking.booked".into()), ..ExportFilter::default() };
        AuditExportCommand::Start { format: ExportFormat::Csv, after, until, filter }
    }

    fn started() -> AuditExportEvent {
        AuditExportEvent::Started {
            audit_export_id: AuditExportId::default(),
            format: ExportFormat::Csv,
            after: 10,
            until: 100,
            filter: ExportFilter { event_type: Some("booking.booked".into()), ..ExportFilter::default() },
            at: DateTime::UNIX_EPOCH,
        }
    }

    fn end(last_position: i64) -> AuditExportCommand {
        AuditExportCommand::End { rows: 7, last_position, complete: true }
    }

    fn ended() -> AuditExportEvent {
        let at = DateTime::UNIX_EPOCH;
        AuditExportEvent::Ended(ExportEnded { rows: 7, last_position: 99, complete: true, at })
    }

    #[test]
    fn an_export_begins_within_the_log() {
        export().given_no_previous_events().when(start(10, 100)).then_expect_events(vec![started()]);
        for (after, until, pointer) in [(0, 101, "?until"), (50, 49, "?until"), (-1, 5, "?after")] {
            let refused = AuditExport::default().decide(
                &start(after, until),
                &AuditExportContext { now: DateTime::UNIX_EPOCH, id: AuditExportId::default(), head: 100 },
            );
            let Err(DomainError::Validation { errors }) = refused else { panic!("{after}..{until}") };
            assert_eq!(errors[0].pointer, pointer, "{after}..{until}");
        }
        export()
            .given(vec![started()])
            .when(start(10, 100))
            .then_expect_error(DomainError::AlreadyExists { what: "audit_export".into() });
    }

    #[test]
    fn what_is_asked_for_is_no_name_and_no_address() {
        let by = |actor: &str| ExportFilter { actor: Some(actor.into()), ..ExportFilter::default() };
        for actor in
            ["user:01a1fdc1-c481-719a-9803-a3bb46f22c94", "system:hold-expiry", "cli:import", "operator"]
        {
            assert_eq!(by(actor).check(), Ok(()), "{actor}");
        }
        let filters = [
            ExportFilter { event_type: Some("ada".into()), ..ExportFilter::default() },
            ExportFilter { aggregate_type: Some("ada".into()), ..ExportFilter::default() },
        ];
        let actors =
            ["ada@example.org", "Ada", "ada", "user:ada", "guest:ada", "ada lovelace", "\u{e9}"].map(by);
        for filter in filters.into_iter().chain(actors) {
            let context =
                AuditExportContext { now: DateTime::UNIX_EPOCH, id: AuditExportId::default(), head: 100 };
            let format = ExportFormat::Csv;
            let start = AuditExportCommand::Start { format, after: 0, until: 100, filter: filter.clone() };
            let refused = AuditExport::default().decide(&start, &context);
            assert!(matches!(refused, Err(DomainError::Validation { .. })), "{filter:?}");
        }
    }

    #[test]
    fn an_export_ends_once_and_where_it_was() {
        export().given(vec![started()]).when(end(99)).then_expect_events(vec![ended()]);
        export()
            .given(vec![started(), ended()])
            .when(end(99))
            .then_expect_error(DomainError::wrong_state("ended", "the export is over"));
        export()
            .given_no_previous_events()
            .when(end(99))
            .then_expect_error(DomainError::not_found("audit_export"));
        for outside in [9, 101] {
            export().given(vec![started()]).when(end(outside)).then_expect_error(DomainError::field(
                "/last_position",
                "out_of_range",
                "this position was not exported",
            ));
        }
    }

    #[test]
    fn positions_are_strings_in_the_log() {
        let payload = serde_json::to_value(started()).unwrap();
        assert_eq!((&payload["after"], &payload["until"]), (&"10".into(), &"100".into()));
        assert_eq!(serde_json::from_value::<AuditExportEvent>(payload).unwrap(), started());
        let payload = serde_json::to_value(ended()).unwrap();
        assert_eq!((&payload["rows"], &payload["last_position"]), (&"7".into(), &"99".into()));
        assert_eq!(serde_json::from_value::<AuditExportEvent>(payload).unwrap(), ended());
    }
}
