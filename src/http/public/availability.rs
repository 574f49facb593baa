//! `GET /public/availability?offering_id&resource_id&from&to`

use axum::{extract::State, response::Response};
use daybook_domain::{
    OfferingId, ResourceId,
    permission::{Action, Resource},
};
use daybook_projections::claims::{self, Asked, Reach};

use super::{
    context::{PublicCall, ReadBudget},
    within,
};
use crate::{
    app::AppState,
    http::{
        availability::{Dates, MAX_NIGHTS, free},
        position::{self, MinPosition},
        problem::{Problem, ProblemBody, Result},
        query::{FromParams, Params, Query},
    },
};

/// What is asked: of an offering, because a resource by itself is not for sale.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    asked: Asked,
    dates: Dates,
}

impl FromParams for Question {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        let offering: OfferingId = params.required("offering_id")?;
        let resource: Option<ResourceId> = params.optional("resource_id")?;
        let dates = Dates::new(params.required("from")?, params.required("to")?, MAX_NIGHTS)?;
        Ok(Self { asked: Asked::Offering(offering, resource), dates })
    }
}

/// What is free of an offering: per night, or each start that can be booked.
#[utoipa::path(
    get, path = "/api/v1/public/availability", tag = "public", operation_id = "public_availability", security(()),
    params(
        ("offering_id" = Uuid, Query, description = "Of this offering, by its rules"),
        ("resource_id" = Option<Uuid>, Query, description = "On this resource only"),
        ("from" = NaiveDate, Query, description = "The first date"),
        ("to" = NaiveDate, Query, description = "The first date after it: at most 62 nights, 31 days of slots"),
        ("X-Tenant-Slug" = Option<String>, Header, description = "The tenant, unless a key or the page's domain says it"),
        ("X-Min-Position" = Option<i64>, Header, description = "The position to have seen"),
    ),
    responses(
        (status = 200, body = free::Availability),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn availability(
    State(state): State<AppState>,
    ReadBudget(allowance): ReadBudget,
    call: PublicCall,
    min: MinPosition,
    Query(Question { asked, dates }): Query<Question>,
) -> Result<Response> {
    call.allows(Resource::Availability, Action::Read)?;
    within(allowance, found(&state, &call, min, asked, dates).await)
}

async fn found(
    state: &AppState,
    call: &PublicCall,
    min: MinPosition,
    asked: Asked,
    dates: Dates,
) -> Result<Response> {
    let mut tx = position::read_in(state, &call.schema(), min).await?;
    let places = claims::places(&mut tx, asked, dates.instants(), Reach::Dates).await?;
    tx.release();
    // What is not offered any more is not there, and neither is a resource that takes no bookings.
    let mut places = places
        .filter(|places| places.offering.as_ref().is_some_and(|offering| !offering.archived))
        .ok_or_else(Problem::not_found)?;
    places.candidates.retain(|candidate| candidate.resource.bookable());
    free::respond(&free::answer(places, asked, dates)?)
}
