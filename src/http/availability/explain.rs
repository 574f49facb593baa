//! `GET /availability/explain?resource_id&from&to`

use axum::{extract::State, response::Response};
use chrono::{DateTime, FixedOffset, NaiveDate, Utc};
use chrono_tz::Tz;
use daybook_domain::{
    Nights, ResourceId,
    availability::{self, Because, Blocked},
    offering::OfferingMode,
    schedule::ClosedBy,
};
use daybook_projections::claims::{self, Asked, Reach};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Dates, MAX_NIGHTS};
use crate::{
    app::AppState,
    http::{
        context::CallContext,
        position::{self, MinPosition},
        problem::{Problem, ProblemBody, Result},
        query::{FromParams, Params, Query},
        respond,
    },
};

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    resource: ResourceId,
    dates: Dates,
    mode: OfferingMode,
}

impl FromParams for Question {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        let mode = match params.one_of("mode", &["nights", "slot"])?.as_deref() {
            Some("slot") => OfferingMode::Slot,
            _ => OfferingMode::Nights,
        };
        Ok(Self {
            resource: params.required("resource_id")?,
            dates: Dates::new(params.required("from")?, params.required("to")?, MAX_NIGHTS)?,
            mode,
        })
    }
}

/// Why a resource cannot be booked.
#[derive(Debug, Serialize, ToSchema)]
pub struct Explanation {
    /// The resource.
    resource_id: Uuid,
    /// Its IANA time zone.
    time_zone: &'static str,
    /// The first date.
    from: NaiveDate,
    /// The first date after it.
    to: NaiveDate,
    /// What blocks it, by time; nothing if nothing does.
    blocked: Vec<Block>,
}

/// A stretch that cannot be booked.
#[derive(Debug, Serialize, ToSchema)]
pub struct Block {
    /// Its start, on the resource's clock.
    starts_at: DateTime<FixedOffset>,
    /// Its end.
    ends_at: DateTime<FixedOffset>,
    /// `booking`, `closed` or `archived`.
    because: &'static str,
    /// The booking that takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    booking_id: Option<Uuid>,
    /// The unit that booking is pinned to.
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<u32>,
    /// When that booking lapses, for holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<DateTime<Utc>>,
    /// The kind of rule that closes it: `weekly`, `season`, `exception`, `block`.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'static str>,
    /// The local date that is closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    date: Option<NaiveDate>,
    /// The season's name or the block's note.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

/// Why a resource cannot be booked: which bookings, which rules.
#[utoipa::path(
    get, path = "/api/v1/availability/explain", tag = "availability", operation_id = "explain_availability",
    params(
        ("resource_id" = Uuid, Query, description = "The resource"),
        ("from" = NaiveDate, Query, description = "The first date"),
        ("to" = NaiveDate, Query, description = "The first date after it, at most 62 days later"),
        ("mode" = Option<String>, Query, description = "`nights` (closed nights as a whole) or `slot` (closed hours)"),
        ("X-Min-Position" = Option<i64>, Header, description = "The position to have seen"),
    ),
    responses(
        (status = 200, body = Explanation),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn explain(
    State(state): State<AppState>,
    call: CallContext,
    min: MinPosition,
    Query(Question { resource, dates, mode }): Query<Question>,
) -> Result<Response> {
    let mut tx = position::read(&state, &call, min).await?;
    let places = claims::places(&mut tx, Asked::Resource(resource), dates.instants(), Reach::Dates).await?;
    tx.release();
    let places = places.ok_or_else(Problem::not_found)?;
    let candidate = places.candidates.first().ok_or_else(Problem::not_found)?;
    let zone = candidate.resource.time_zone;
    let interval = Nights::new(dates.from, dates.to)
        .map_err(|_| Problem::field("?from", "out_of_range", "these dates are out of range"))?
        .to_interval(zone);
    let blocked = availability::explain(candidate, mode, &interval, places.now);
    respond::json(&Explanation {
        resource_id: resource.0,
        time_zone: zone.name(),
        from: dates.from,
        to: dates.to,
        blocked: blocked.into_iter().map(|blocked| block(blocked, zone)).collect(),
    })
}

fn block(blocked: Blocked, zone: Tz) -> Block {
    let Blocked { interval, because } = blocked;
    let bare = Block {
        starts_at: interval.start().with_timezone(&zone).fixed_offset(),
        ends_at: interval.end().with_timezone(&zone).fixed_offset(),
        because: "archived",
        booking_id: None,
        unit: None,
        expires_at: None,
        rule: None,
        date: None,
        note: None,
    };
    match because {
        Because::Archived => bare,
        Because::Taken { booking_id, unit, expires_at } => {
            Block { because: "booking", booking_id: Some(booking_id.0), unit, expires_at, ..bare }
        }
        Because::Closed(closed) => {
            let rule = match closed.rule {
                ClosedBy::Weekly => "weekly",
                ClosedBy::Season => "season",
                ClosedBy::Exception => "exception",
                ClosedBy::Block => "block",
            };
            Block { because: "closed", rule: Some(rule), date: Some(closed.date), note: closed.note, ..bare }
        }
    }
}
