//! `GET /reports/pace?from&to`

use axum::{extract::State, response::Response};
use chrono::NaiveDate;
use daybook_projections::pace::{self, PaceBy, PaceRow};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    app::AppState,
    http::{
        availability::Dates,
        context::CallContext,
        cursor::Listing,
        money::MoneyBody,
        position::{self, MinPosition},
        problem::{ProblemBody, Result},
        query::{FromParams, Params, Query},
        respond,
    },
};

/// The most days of arrivals at once: three years.
const MAX_DAYS: i64 = 1_098;

/// Which arrivals, grouped how.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    dates: Dates,
    by: PaceBy,
}

impl FromParams for Question {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        let by = match params.one_of("by", &["date", "month"])?.as_deref() {
            Some("month") => PaceBy::Month,
            _ => PaceBy::Date,
        };
        Ok(Self { dates: Dates::new(params.required("from")?, params.required("to")?, MAX_DAYS)?, by })
    }
}

/// What is on the books for a date or month of arrival, by how long before it was booked.
#[derive(Debug, Serialize, ToSchema)]
pub struct Pace {
    /// The date, or the first of the month.
    arrival: NaiveDate,
    /// The least days between booking and arrival.
    lead_from: i32,
    /// The first number of days past the bucket; null for the last.
    lead_until: Option<i32>,
    /// Bookings on the books.
    bookings: i64,
    /// Their nights.
    nights: i64,
    /// Their price.
    revenue: MoneyBody,
    /// Bookings that were cancelled.
    cancelled_bookings: i64,
    /// Their nights.
    cancelled_nights: i64,
    /// Bookings nobody came for.
    no_shows: i64,
    /// Their nights.
    no_show_nights: i64,
}

impl From<PaceRow> for Pace {
    fn from(row: PaceRow) -> Self {
        Self {
            arrival: row.arrival,
            lead_from: row.lead_from,
            lead_until: row.lead_until(),
            bookings: row.bookings,
            nights: row.nights,
            revenue: MoneyBody { amount: row.revenue, currency: row.currency },
            cancelled_bookings: row.cancelled_bookings,
            cancelled_nights: row.cancelled_nights,
            no_shows: row.no_shows,
            no_show_nights: row.no_show_nights,
        }
    }
}

/// Booking pace: arrivals by lead time. Follows the log.
#[utoipa::path(
    get, path = "/api/v1/reports/pace", tag = "reports", operation_id = "report_pace",
    params(
        ("from" = NaiveDate, Query, description = "The first date of arrival"),
        ("to" = NaiveDate, Query, description = "The first date after it, at most three years later"),
        ("by" = Option<String>, Query, description = "`date` (the default) or `month`"),
        ("X-Min-Position" = Option<i64>, Header, description = "The position to have seen"),
    ),
    responses(
        (status = 200, body = Listing<Pace>),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn pace(
    State(state): State<AppState>,
    call: CallContext,
    min: MinPosition,
    Query(Question { dates, by }): Query<Question>,
) -> Result<Response> {
    let mut tx = position::read_followed(&state, &call, min, "pace").await?;
    let rows = pace::list(&mut tx, dates.from, dates.to, by).await?;
    tx.release();
    respond::json(&Listing { items: rows.into_iter().map(Pace::from).collect(), next_cursor: None })
}
