//! `GET /bookings/{id}[?as_of=position|time]`

use axum::{extract::State, response::Response};
use chrono::{DateTime, Utc};
use daybook_domain::{
    booking::Booking,
    permission::Scope,
    registry::{AggregateType, Registered as _},
};
use daybook_projections::{bookings, positions};
use uuid::Uuid;

use super::BookingBody;
use crate::{
    app::AppState,
    eventstore::{
        StreamRef,
        load::{Reader, Until},
    },
    http::{
        context::CallContext,
        path::Id,
        position::{self, MinPosition},
        problem::{Problem, ProblemBody, Result},
        query::{FromParams, Params, Query, Value},
        respond::{self, wrong_type},
        retained, scope,
    },
};

/// As of when.
#[derive(Clone, Copy, Debug)]
pub struct AsOf(Option<Until>);

impl FromParams for AsOf {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        let Some(text) = params.text("as_of")? else { return Ok(Self(None)) };
        let until = match text.parse::<i64>() {
            Ok(position) if position >= 0 => Some(Until::Position(position)),
            Ok(_) => None,
            Err(_) => DateTime::<Utc>::read(&text).map(Until::Time),
        };
        until.map(|until| Self(Some(until))).ok_or_else(|| {
            Problem::field("?as_of", "invalid_value", "expected a position or an RFC 3339 time")
        })
    }
}

/// Get a booking as it is, or as it was at a position or time that the plan's history still has (410 where it does not).
#[utoipa::path(
    get, path = "/api/v1/bookings/{id}", tag = "bookings", operation_id = "get_booking",
    params(
        ("id" = Uuid, Path),
        ("as_of" = Option<String>, Query, description = "A position in the log, or an RFC 3339 time"),
        ("X-Min-Position" = Option<i64>, Header, description = "The position to have seen"),
    ),
    responses(
        (status = 200, body = BookingBody),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn get(
    State(state): State<AppState>,
    call: CallContext,
    min: MinPosition,
    Id(id): Id<Uuid>,
    Query(AsOf(until)): Query<AsOf>,
) -> Result<Response> {
    let mut tx = position::read(&state, &call, min).await?;
    let Some(until) = until else {
        let row = bookings::get(&mut tx, id).await?.ok_or_else(Problem::not_found)?;
        tx.release();
        scope::booking(&call, &row)?;
        let version = row.version;
        return respond::versioned(&BookingBody::from(row), version);
    };
    if call.caller.scope < Scope::Tenant {
        let row = bookings::get(&mut tx, id).await?.ok_or_else(Problem::not_found)?;
        scope::booking(&call, &row)?;
    }
    let cut = retained::cut(&state, &call).await?;
    match until {
        Until::Position(position) if position > positions::head(&mut tx).await? => {
            return Err(Problem::field("?as_of", "out_of_range", "the log has not come that far"));
        }
        // Before anything happened there was nothing, which is of the time of the first event.
        Until::Position(position) => retained::holds(&mut tx, position.max(1), cut).await?,
        Until::Time(time) if time < cut => retained::holds(&mut tx, 1, cut).await?,
        Until::Time(_) | Until::Sequence(_) | Until::End => {}
    }
    let stream = StreamRef { aggregate_type: AggregateType::Booking, id };
    let mut reader = Reader::disclosing(&call.schema, state.store().keys());
    let (entry, _) = reader.aggregate(&mut tx, stream, until).await?.ok_or_else(Problem::not_found)?;
    tx.release();
    let booking = Booking::of(&entry.state).ok_or_else(wrong_type)?;
    respond::versioned(&BookingBody::new(id, booking, entry.sequence)?, entry.sequence)
}
