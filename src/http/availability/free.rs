//! `GET /availability?offering_id|resource_id&from&to`

use std::collections::HashMap;

use axum::{extract::State, response::Response};
use chrono::{DateTime, FixedOffset, NaiveDate};
use daybook_domain::{
    DomainError, Nights, OfferingId, ResourceId,
    availability::{NightAvailability, NightsInZone, slots_on},
    booking::Candidate,
    offering::{Offering, OfferingMode},
};
use daybook_projections::claims::{self, Asked, Places, Reach};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Dates, MAX_NIGHTS, MAX_SLOT_DAYS};
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
    asked: Asked,
    dates: Dates,
}

impl FromParams for Question {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        let offering: Option<OfferingId> = params.optional("offering_id")?;
        let resource: Option<ResourceId> = params.optional("resource_id")?;
        let asked = match (offering, resource) {
            (Some(offering), resource) => Asked::Offering(offering, resource),
            (None, Some(resource)) => Asked::Resource(resource),
            (None, None) => {
                return Err(Problem::field("?offering_id", "required", "give offering_id or resource_id"));
            }
        };
        let dates = Dates::new(params.required("from")?, params.required("to")?, MAX_NIGHTS)?;
        Ok(Self { asked, dates })
    }
}

/// What is free.
#[derive(Debug, Serialize, ToSchema)]
pub struct Availability {
    /// The offering asked about.
    offering_id: Option<Uuid>,
    /// `nights` or `slot`.
    mode: &'static str,
    /// The first date.
    from: NaiveDate,
    /// The first date after it.
    to: NaiveDate,
    /// Each resource, in the order they are tried.
    resources: Vec<ResourceAvailability>,
}

/// What is free on one resource.
#[derive(Debug, Serialize, ToSchema)]
pub struct ResourceAvailability {
    /// The resource.
    resource_id: Uuid,
    /// Its IANA time zone: whose dates these are.
    time_zone: &'static str,
    /// How many units it has.
    capacity: u32,
    /// Each night by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    nights: Option<Vec<Night>>,
    /// Each start that can be booked.
    #[serde(skip_serializing_if = "Option::is_none")]
    slots: Option<Vec<Slot>>,
}

/// One night.
#[derive(Debug, Serialize, ToSchema)]
pub struct Night {
    /// The date it begins.
    date: NaiveDate,
    /// How many units are free.
    free: u32,
    /// Why it cannot be booked, though units may be free (`closed`, `archived`, …).
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// One start.
#[derive(Debug, Serialize, ToSchema)]
pub struct Slot {
    /// When it begins, on the resource's clock.
    starts_at: DateTime<FixedOffset>,
    /// When it ends.
    ends_at: DateTime<FixedOffset>,
    /// How many units are free for all of it.
    free: u32,
}

/// What is free: per night, or each start that can be booked.
#[utoipa::path(
    get, path = "/api/v1/availability", tag = "availability", operation_id = "availability",
    params(
        ("offering_id" = Option<Uuid>, Query, description = "Of this offering, by its rules"),
        ("resource_id" = Option<Uuid>, Query, description = "Of this resource only; by nights if no offering is given"),
        ("from" = NaiveDate, Query, description = "The first date"),
        ("to" = NaiveDate, Query, description = "The first date after it: at most 62 nights, 31 days of slots"),
        ("X-Min-Position" = Option<i64>, Header, description = "The position to have seen"),
    ),
    responses(
        (status = 200, body = Availability),
        (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn free(
    State(state): State<AppState>,
    call: CallContext,
    min: MinPosition,
    Query(Question { asked, dates }): Query<Question>,
) -> Result<Response> {
    let mut tx = position::read(&state, &call, min).await?;
    let places = claims::places(&mut tx, asked, dates.instants(), Reach::Dates)
        .await?
        .ok_or_else(Problem::not_found)?;
    tx.release();
    respond(&answer(places, asked, dates)?)
}

/// The answer, as it is sent.
///
/// # Errors
/// `internal` when it does not serialise.
pub(in crate::http) fn respond(answer: &Availability) -> Result<Response> {
    respond::json_of_about(1_000 + answer.resources.len() * 400, answer)
}

/// The answer from what was found.
///
/// # Errors
/// `not_found` for an offering that is not on the resource, `validation_failed` for too many days or starts of slots.
pub(in crate::http) fn answer(places: Places, asked: Asked, dates: Dates) -> Result<Availability> {
    let Places { offering, candidates, now } = places;
    let offering_id = match asked {
        Asked::Offering(offering, _) => Some(offering.0),
        Asked::Resource(_) => None,
    };
    if let Asked::Offering(_, Some(_)) = asked {
        // The offering exists, but not on this resource.
        if candidates.is_empty() {
            return Err(Problem::not_found());
        }
    }
    // Without an offering there are no terms, only nights that are taken or not.
    let offering = offering.unwrap_or_default();
    if offering.mode == OfferingMode::Slot {
        dates.at_most(MAX_SLOT_DAYS)?;
        dates.few_starts(&offering, candidates.len())?;
    }
    let nights = Nights::new(dates.from, dates.to)
        .map_err(|_| Problem::field("?from", "out_of_range", "these dates are out of range"))?;
    let mut in_zones = HashMap::new();
    let resource = |candidate: &Candidate| {
        let (mut by_night, mut by_slot) = (None, None);
        match offering.mode {
            OfferingMode::Nights => {
                let archived = offering.archived || !candidate.resource.bookable();
                let zone = candidate.resource.time_zone;
                let in_zone =
                    in_zones.entry(zone).or_insert_with(|| NightsInZone::new(&offering, &nights, zone, now));
                let found = in_zone.on(candidate, now);
                by_night = Some(found.into_iter().map(|found| night(found, archived)).collect());
            }
            OfferingMode::Slot => by_slot = Some(slots(&offering, candidate, &nights, now)),
        }
        ResourceAvailability {
            resource_id: candidate.id().0,
            time_zone: candidate.resource.time_zone.name(),
            capacity: candidate.resource.capacity,
            nights: by_night,
            slots: by_slot,
        }
    };
    Ok(Availability {
        offering_id,
        mode: offering.mode.as_str(),
        from: dates.from,
        to: dates.to,
        resources: candidates.iter().map(resource).collect(),
    })
}

fn night(found: NightAvailability, archived: bool) -> Night {
    if archived {
        return Night { date: found.date, free: 0, reason: Some("archived".into()) };
    }
    Night { date: found.date, free: found.free, reason: found.refusal.map(code) }
}

/// The stable code of a refusal; its note stays with those who may know.
fn code(refusal: DomainError) -> String {
    match refusal {
        DomainError::Validation { errors } => {
            errors.into_iter().next().map_or_else(|| "validation_failed".into(), |error| error.code)
        }
        other => Problem::from(other).code().as_str().to_owned(),
    }
}

fn slots(
    offering: &Offering,
    candidate: &Candidate,
    dates: &Nights,
    now: chrono::DateTime<chrono::Utc>,
) -> Vec<Slot> {
    if offering.archived {
        return Vec::new();
    }
    let zone = candidate.resource.time_zone;
    dates
        .dates()
        .flat_map(|date| slots_on(offering, candidate, date, now))
        .map(|slot| Slot {
            starts_at: slot.during.start().with_timezone(&zone).fixed_offset(),
            ends_at: slot.during.end().with_timezone(&zone).fixed_offset(),
            free: slot.free,
        })
        .collect()
}
