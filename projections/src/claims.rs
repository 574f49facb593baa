//! What takes up resources, and the rules beside it: all that an availability answer is worked out from.
//!
//! Exact, because every table read here is written in the transaction of the events.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use daybook_domain::{
    BookingId, Interval, OfferingId, ResourceId, ScheduleId,
    booking::Candidate,
    occupancy::{Claim, Occupancy},
    offering::{Offering, OfferingTerms},
    resource::{Resource, ResourceKind},
    schedule::{Rules, Schedule},
    text::Name,
};
use sqlx::{PgConnection, Row, postgres::PgRow, types::Json};
use uuid::Uuid;

/// What can be taken: an offering's terms, and each resource that could take it, in the order they are tried.
#[derive(Clone, Debug)]
pub struct Places {
    /// The offering, if one was asked for.
    pub offering: Option<Offering>,
    /// The resources with their rules and their claims.
    pub candidates: Vec<Candidate>,
    /// The database's clock when this was read.
    pub now: DateTime<Utc>,
}

/// Which resources are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Those of an offering, or of them only this one.
    Offering(OfferingId, Option<ResourceId>),
    /// One resource, whatever is offered on it.
    Resource(ResourceId),
}

/// The places asked for with every claim that overlaps the window; `None` when there is no such offering or resource.
///
/// How wide the window must be may depend on the offering, if one was asked for.
///
/// # Errors
/// When PostgreSQL refuses, or a row is of a shape this binary does not know.
pub async fn places(
    connection: &mut PgConnection,
    asked: Asked,
    window: impl FnOnce(Option<&Offering>) -> (DateTime<Utc>, DateTime<Utc>) + Send,
) -> Result<Option<Places>, sqlx::Error> {
    let rows = match asked {
        Asked::Offering(offering, Some(resource)) => {
            sqlx::query(
                "SELECT clock_timestamp(), o.id, o.archived, o.terms, r.id, r.name, r.kind, r.capacity, r.time_zone,
                        r.archived, s.id, s.name, s.resource_ids, s.rules
                 FROM offerings o
                 LEFT JOIN resources r ON r.id = $2 AND r.id = ANY (o.resource_ids)
                 LEFT JOIN schedules s ON NOT s.archived AND s.resource_ids @> ARRAY[r.id]
                 WHERE o.id = $1",
            )
            .bind(offering.0)
            .bind(resource.0)
            .fetch_all(&mut *connection)
            .await?
        }
        Asked::Offering(offering, None) => {
            // What is large and the same for all resources is sent once: the terms here, a schedule below.
            sqlx::query(
                "SELECT clock_timestamp(), o.id, o.archived, CASE WHEN coalesce(w.n, 1) = 1 THEN o.terms END, r.id,
                        r.name, r.kind, r.capacity, r.time_zone, r.archived, NULL::uuid
                 FROM offerings o
                 LEFT JOIN LATERAL unnest(o.resource_ids) WITH ORDINALITY AS w (id, n) ON true
                 LEFT JOIN resources r ON r.id = w.id
                 WHERE o.id = $1 ORDER BY w.n",
            )
            .bind(offering.0)
            .fetch_all(&mut *connection)
            .await?
        }
        Asked::Resource(resource) => {
            sqlx::query(
                "SELECT clock_timestamp(), NULL::uuid, NULL::boolean, NULL::jsonb, r.id, r.name, r.kind, r.capacity,
                        r.time_zone, r.archived, s.id, s.name, s.resource_ids, s.rules
                 FROM resources r LEFT JOIN schedules s ON NOT s.archived AND s.resource_ids @> ARRAY[r.id]
                 WHERE r.id = $1",
            )
            .bind(resource.0)
            .fetch_all(&mut *connection)
            .await?
        }
    };
    let Some(first) = rows.first() else { return Ok(None) };
    let now = first.try_get(0)?;
    let offering = offering(first)?;
    let mut candidates =
        rows.iter().filter_map(|row| candidate(row).transpose()).collect::<Result<Vec<_>, _>>()?;
    let ids: Vec<Uuid> = candidates.iter().map(|candidate| candidate.id().0).collect();
    if let Asked::Offering(_, None) = asked {
        let schedules = schedules_of(connection, &ids).await?;
        for candidate in &mut candidates {
            candidate.schedule = schedules.get(&candidate.id()).cloned();
        }
    }
    let (from, to) = window(offering.as_ref());
    let mut claims = claims_overlapping(connection, &ids, from, to).await?;
    for candidate in &mut candidates {
        candidate.occupancy = Arc::new(claims.remove(&candidate.id()).unwrap_or_default());
    }
    Ok(Some(Places { offering, candidates, now }))
}

/// The schedules that are in force, by resource.
async fn schedules_of(
    connection: &mut PgConnection,
    resource_ids: &[Uuid],
) -> Result<HashMap<ResourceId, Arc<Schedule>>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT s.id, s.name, s.resource_ids, s.rules FROM schedules s WHERE NOT s.archived AND s.resource_ids && $1",
    )
    .bind(resource_ids)
    .fetch_all(connection)
    .await?;
    let mut schedules = HashMap::new();
    for row in &rows {
        let Some(schedule) = schedule(row, 0)?.map(Arc::new) else { continue };
        schedules.extend(schedule.resource_ids.iter().map(|resource| (*resource, schedule.clone())));
    }
    Ok(schedules)
}

/// Every claim that overlaps `[from, to)`, by resource.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn claims_overlapping(
    connection: &mut PgConnection,
    resource_ids: &[Uuid],
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<HashMap<ResourceId, Occupancy>, sqlx::Error> {
    type ClaimRow = (Uuid, Uuid, DateTime<Utc>, DateTime<Utc>, Option<i32>, Option<DateTime<Utc>>);
    if resource_ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<ClaimRow> = sqlx::query_as(
        "SELECT w.id, c.booking_id, c.starts_at, c.ends_at, c.unit, c.expires_at
         FROM unnest($1::uuid[]) AS w (id) CROSS JOIN LATERAL slot_overlaps(w.id, $2, $3) AS c",
    )
    .bind(resource_ids)
    .bind(from)
    .bind(to)
    .fetch_all(connection)
    .await?;
    let mut claims: HashMap<ResourceId, Vec<Claim>> = HashMap::new();
    for (resource, booking, starts_at, ends_at, unit, expires_at) in rows {
        // The table's own check keeps every claim's end after its start.
        let Ok(during) = Interval::new(starts_at, ends_at) else { continue };
        let unit = unit.and_then(|unit| u32::try_from(unit).ok());
        let claim = Claim { booking_id: BookingId(booking), during, unit, expires_at };
        claims.entry(ResourceId(resource)).or_default().push(claim);
    }
    Ok(claims.into_iter().map(|(resource, claims)| (resource, claims.into_iter().collect())).collect())
}

/// The instants that a question about `[from, to)` can depend on: buffers reach at most a week, zones a day.
pub fn margin(from: DateTime<Utc>, to: DateTime<Utc>) -> (DateTime<Utc>, DateTime<Utc>) {
    widened(from, to, TimeDelta::days(9), TimeDelta::days(9))
}

/// The instants that the nights from one midnight to another, each by itself, depend on, in any zone. That is what
/// overlaps them; how others could be moved to make room is nothing that single nights are asked about.
pub fn margin_of_nights(
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    offering: Option<&Offering>,
) -> (DateTime<Utc>, DateTime<Utc>) {
    let (before, after) =
        offering.map_or((0, 0), |offering| (offering.buffer_before_minutes, offering.buffer_after_minutes));
    let reach = |buffer: u32| TimeDelta::days(1) + TimeDelta::minutes(buffer.into());
    widened(from, to, reach(before), reach(after))
}

fn widened(
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    before: TimeDelta,
    after: TimeDelta,
) -> (DateTime<Utc>, DateTime<Utc>) {
    (from.checked_sub_signed(before).unwrap_or(from), to.checked_add_signed(after).unwrap_or(to))
}

fn unreadable(what: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("a stored {what} is not readable").into())
}

fn offering(row: &PgRow) -> Result<Option<Offering>, sqlx::Error> {
    let Some(id) = row.try_get::<Option<Uuid>, _>(1)? else { return Ok(None) };
    let Json(terms) = row.try_get::<Json<OfferingTerms>, _>(3)?;
    Ok(Some(Offering { id: Some(OfferingId(id)), archived: row.try_get(2)?, terms }))
}

/// `None` for the empty side of a join.
fn candidate(row: &PgRow) -> Result<Option<Candidate>, sqlx::Error> {
    let Some(id) = row.try_get::<Option<Uuid>, _>(4)? else { return Ok(None) };
    let kind = match row.try_get::<&str, _>(6)? {
        "unit" => ResourceKind::Unit,
        "pool" => ResourceKind::Pool,
        _ => return Err(unreadable("kind of resource")),
    };
    let resource = Resource {
        id: Some(ResourceId(id)),
        name: row.try_get(5)?,
        kind,
        capacity: u32::try_from(row.try_get::<i32, _>(7)?).map_err(|_| unreadable("capacity"))?,
        time_zone: row.try_get::<&str, _>(8)?.parse().map_err(|_| unreadable("time zone"))?,
        archived: row.try_get(9)?,
    };
    let schedule = schedule(row, 10)?.map(Arc::new);
    Ok(Some(Candidate { resource: Arc::new(resource), schedule, occupancy: Arc::default() }))
}

/// A schedule from four columns; `None` for the empty side of a join.
fn schedule(row: &PgRow, first: usize) -> Result<Option<Schedule>, sqlx::Error> {
    let Some(id) = row.try_get::<Option<Uuid>, _>(first)? else { return Ok(None) };
    let Json(rules) = row.try_get::<Json<Rules>, _>(first + 3)?;
    Ok(Some(Schedule {
        id: Some(ScheduleId(id)),
        name: Name::new(row.try_get(first + 1)?, "/name").map_err(|_| unreadable("name of a schedule"))?,
        resource_ids: row.try_get::<Vec<Uuid>, _>(first + 2)?.into_iter().map(ResourceId).collect(),
        rules,
        archived: false,
    }))
}
