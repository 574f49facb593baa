//! `GET /calendar?from&to&resource_id`

use axum::{extract::State, response::Response};
use chrono::NaiveDate;
use daybook_domain::ResourceId;
use daybook_projections::calendar::{self, CalendarDay};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    app::AppState,
    http::{
        availability::Dates,
        context::CallContext,
        cursor::Listing,
        position::{self, MinPosition},
        problem::{ProblemBody, Result},
        query::{FromParams, Params, Query},
        respond, scope,
    },
};

/// The most days at once.
const MAX_DAYS: i64 = 93;

/// Which dates of which resources.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    dates: Dates,
    resource: Option<ResourceId>,
}

impl FromParams for Question {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        Ok(Self {
            dates: Dates::new(params.required("from")?, params.required("to")?, MAX_DAYS)?,
            resource: params.optional("resource_id")?,
        })
    }
}

/// One resource on one date of its zone.
#[derive(Debug, Serialize, ToSchema)]
pub struct Day {
    /// The resource.
    resource_id: Uuid,
    /// The date.
    date: NaiveDate,
    /// How many units it has.
    capacity: i32,
    /// Units booked that night, or at some time that day.
    booked: i32,
    /// Units that are not.
    free: i32,
    /// Bookings that begin.
    arrivals: i32,
    /// Bookings that end.
    departures: i32,
    /// Bookings that should have begun, and nobody came.
    no_shows: i32,
    /// Bookings that would have begun, and were cancelled.
    cancellations: i32,
}

impl From<CalendarDay> for Day {
    fn from(day: CalendarDay) -> Self {
        Self {
            resource_id: day.resource_id,
            date: day.day,
            capacity: day.capacity,
            booked: day.booked,
            free: (day.capacity - day.booked).max(0),
            arrivals: day.arrivals,
            departures: day.departures,
            no_shows: day.no_shows,
            cancellations: day.cancellations,
        }
    }
}

/// How full each resource is on each date. Follows the log: send `X-Min-Position` to read your own writes.
#[utoipa::path(
    get, path = "/api/v1/calendar", tag = "calendar", operation_id = "calendar",
    params(
        ("from" = NaiveDate, Query, description = "The first date"),
        ("to" = NaiveDate, Query, description = "The first date after it, at most 93 days later"),
        ("resource_id" = Option<Uuid>, Query, description = "Only this resource"),
        ("X-Min-Position" = Option<i64>, Header, description = "The position to have seen"),
    ),
    responses(
        (status = 200, body = Listing<Day>),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn list(
    State(state): State<AppState>,
    call: CallContext,
    min: MinPosition,
    Query(Question { dates, resource }): Query<Question>,
) -> Result<Response> {
    let only = match resource {
        Some(resource) => {
            scope::resource(&call, resource.0)?;
            Some(vec![resource.0])
        }
        None => scope::resources(&call),
    };
    let mut tx = position::read_followed(&state, &call, min, "calendar").await?;
    let days = calendar::list(&mut tx, only.as_deref(), dates.from, dates.to).await?;
    tx.release();
    respond::json(&Listing { items: days.into_iter().map(Day::from).collect(), next_cursor: None })
}
