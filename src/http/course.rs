//! How far a support session or a hijack has come: the part of their answers that the two share.

use chrono::{DateTime, Utc};
use daybook_domain::{
    hijack::Hijack, masquerade::Ended, support_request::Party, support_session::SupportSession,
};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// How far a support session or a hijack has come.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MasqueradeCourse)]
pub struct Course {
    /// `open`, `ended` or `refused`.
    #[schema(example = "open")]
    pub state: String,
    /// When it began, or was refused.
    pub started_at: DateTime<Utc>,
    /// When it ends by itself, or would have.
    pub expires_at: DateTime<Utc>,
    /// Why it was refused.
    pub refused: Option<String>,
    /// What ended it, once that is noted: `stopped`, `expired`, `window_closed` or `no_longer_allowed`.
    pub end_cause: Option<String>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// The account that ended it.
    pub ended_by: Option<Uuid>,
    /// Of which side: `tenant`, `platform` or `operator`.
    pub ended_side: Option<String>,
    /// How many reads were answered in it.
    pub viewed: i32,
    /// How many requests were refused in it.
    pub denied: i32,
}

/// The course of a row that has it in its columns.
macro_rules! course {
    ($row:ident) => {
        $crate::http::course::Course {
            state: $row.state,
            started_at: $row.started_at,
            expires_at: $row.until,
            refused: $row.refused,
            end_cause: $row.end_cause,
            ended_at: $row.ended_at,
            ended_by: $row.ended_by,
            ended_side: $row.ended_side,
            viewed: $row.viewed,
            denied: $row.denied,
        }
    };
}
pub(crate) use course;

impl Course {
    /// Of a support session, at a time.
    pub fn of_session(session: &SupportSession, now: DateTime<Utc>) -> Self {
        let refused = session.refused.map(|refused| refused.as_str());
        let counts = (session.viewed, session.denied);
        let times = (session.started_at, session.until);
        Self::of(refused, session.ended, session.is_open(now), times, counts)
    }

    /// Of a hijack, at a time.
    pub fn of_hijack(hijack: &Hijack, now: DateTime<Utc>) -> Self {
        let refused = hijack.refused.map(|refused| refused.as_str());
        let counts = (hijack.viewed, hijack.denied);
        let times = (hijack.started_at, hijack.until);
        Self::of(refused, hijack.ended, hijack.is_open(now), times, counts)
    }

    fn of(
        refused: Option<&str>,
        ended: Option<Ended>,
        open: bool,
        (started_at, expires_at): (DateTime<Utc>, DateTime<Utc>),
        (viewed, denied): (u32, u32),
    ) -> Self {
        let state = match (refused, open) {
            (Some(_), _) => "refused",
            (None, true) => "open",
            (None, false) => "ended",
        };
        let by = ended.and_then(|ended| ended.cause.by());
        let count = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
        Self {
            state: state.to_owned(),
            started_at,
            expires_at,
            refused: refused.map(str::to_owned),
            end_cause: ended.map(|ended| ended.cause.as_str().to_owned()),
            ended_at: ended.map(|ended| ended.at),
            ended_by: by.and_then(Party::user).map(|user| user.0),
            ended_side: by.map(|by| by.side().to_owned()),
            viewed: count(viewed),
            denied: count(denied),
        }
    }
}
