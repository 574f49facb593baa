//! What takes up resources, and the rules beside it: all that an availability answer is worked out from.
//!
//! Exact, because every table read here is written in the transaction of the events.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use daybook_domain::{
    BookingId, Interval, OfferingId, ResourceId, ScheduleId,
    booking::Candidate,
    occupancy::{Claim, Occupancy},
    offering::{Offering, OfferingMode, OfferingTerms},
    resource::{Resource, ResourceKind},
    schedule::{Rules, Schedule},
    text::Name,
};
use sqlx::{PgConnection, Row, postgres::PgRow, types::Json};
use uuid::Uuid;

/// What can be taken: an offering's terms, and each resource that could take it, in the order they are tried.
#[derive(Clone, Debug)]
pub struct Places {
    /// The offering, if one was asked for; of the resources that it names, those that were asked for.
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

/// How far from the instants of a question what it depends on may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The dates' nights or slots, by the offering's mode; nights where none is asked for.
    Dates,
    /// Also how bookings could be moved to make room.
    Moves,
}

/// The places asked for with every claim that a question about `[from, to)` can depend on; `None` when there is no such
/// offering or resource.
///
/// # Errors
/// When PostgreSQL refuses, or a row is of a shape this binary does not know.
pub async fn places(
    connection: &mut PgConnection,
    asked: Asked,
    (from, to): (DateTime<Utc>, DateTime<Utc>),
    reach: Reach,
) -> Result<Option<Places>, sqlx::Error> {
    let rows = match asked {
        // One resource's claims come along: a second question would take longer than their answer.
        Asked::Offering(offering, Some(resource)) => {
            sqlx::query(
                // Terms name all their resources: without those they are small, and read once. What is past a fence is
                // worked out once, not for each claim.
                "SELECT clock_timestamp(), o.id, o.archived, w.terms, r.id, r.name, r.kind, r.capacity, r.time_zone,
                        r.archived, s.id, s.name, s.resource_ids, s.rules, c.*
                 FROM offerings o
                 LEFT JOIN resources r ON r.id = $2 AND r.id = ANY (o.resource_ids)
                 LEFT JOIN schedules s ON NOT s.archived AND s.resource_ids @> ARRAY[r.id]
                 CROSS JOIN LATERAL (
                     SELECT m.terms,
                            $3 - CASE WHEN wide THEN $6 ELSE $7 + make_interval(mins => t.buffer_before_minutes) END AS since,
                            $4 + CASE WHEN wide THEN $6 ELSE $7 + make_interval(mins => t.buffer_after_minutes) END AS until
                     FROM (SELECT o.terms || '{\"resource_ids\": []}' OFFSET 0) AS m (terms),
                          jsonb_to_record(m.terms) AS t (
                              mode text, buffer_before_minutes integer, buffer_after_minutes integer),
                          LATERAL (SELECT $5 OR t.mode = 'slot') AS of_mode (wide)
                     OFFSET 0
                 ) AS w
                 CROSS JOIN LATERAL (
                     SELECT array_agg(booking_id), array_agg(starts_at), array_agg(ends_at), array_agg(unit),
                            array_agg(expires_at)
                     FROM slot_overlaps(r.id, w.since, w.until)
                 ) AS c
                 WHERE o.id = $1",
            )
            .bind(offering.0)
            .bind(resource.0)
            .bind(from)
            .bind(to)
            .bind(reach == Reach::Moves)
            .bind(ANY_REACH)
            .bind(ZONES)
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
            let (from, to) = within(from, to, reach, None);
            sqlx::query(
                "SELECT clock_timestamp(), NULL::uuid, NULL::boolean, NULL::jsonb, r.id, r.name, r.kind, r.capacity,
                        r.time_zone, r.archived, s.id, s.name, s.resource_ids, s.rules, c.*
                 FROM resources r LEFT JOIN schedules s ON NOT s.archived AND s.resource_ids @> ARRAY[r.id]
                 CROSS JOIN LATERAL (
                     SELECT array_agg(booking_id), array_agg(starts_at), array_agg(ends_at), array_agg(unit),
                            array_agg(expires_at)
                     FROM slot_overlaps(r.id, $2, $3)
                 ) AS c
                 WHERE r.id = $1",
            )
            .bind(resource.0)
            .bind(from)
            .bind(to)
            .fetch_all(&mut *connection)
            .await?
        }
    };
    let Some(first) = rows.first() else { return Ok(None) };
    let now = first.try_get(0)?;
    let mut offering = offering(first)?;
    let mut candidates =
        rows.iter().filter_map(|row| candidate(row).transpose()).collect::<Result<Vec<_>, _>>()?;
    if let Asked::Offering(_, None) = asked {
        let ids: Vec<Uuid> = candidates.iter().map(|candidate| candidate.id().0).collect();
        let schedules = schedules_of(connection, &ids).await?;
        let (from, to) = within(from, to, reach, offering.as_ref());
        let mut claims = claims_overlapping(connection, &ids, from, to).await?;
        for candidate in &mut candidates {
            candidate.schedule = schedules.get(&candidate.id()).cloned();
            candidate.occupancy = Arc::new(claims.remove(&candidate.id()).unwrap_or_default());
        }
    } else {
        for (candidate, row) in candidates.iter_mut().zip(&rows) {
            candidate.occupancy = Arc::new(occupancy(row, 14)?);
        }
        if let Some(offering) = &mut offering {
            offering.terms.resource_ids = candidates.iter().map(Candidate::id).collect();
        }
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
async fn claims_overlapping(
    connection: &mut PgConnection,
    resource_ids: &[Uuid],
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<HashMap<ResourceId, Occupancy>, sqlx::Error> {
    if resource_ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<(Uuid, Uuid, DateTime<Utc>, DateTime<Utc>, Option<i32>, Option<DateTime<Utc>>)> =
        sqlx::query_as(
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
        claims
            .entry(ResourceId(resource))
            .or_default()
            .extend(claim(booking, starts_at, ends_at, unit, expires_at));
    }
    Ok(claims.into_iter().map(|(resource, claims)| (resource, claims.into_iter().collect())).collect())
}

/// The claims on a resource from five columns of arrays.
fn occupancy(row: &PgRow, first: usize) -> Result<Occupancy, sqlx::Error> {
    let Some(bookings) = row.try_get::<Option<Vec<Uuid>>, _>(first)? else { return Ok(Occupancy::default()) };
    let starts: Vec<DateTime<Utc>> = row.try_get(first + 1)?;
    let ends: Vec<DateTime<Utc>> = row.try_get(first + 2)?;
    let units: Vec<Option<i32>> = row.try_get(first + 3)?;
    let expiries: Vec<Option<DateTime<Utc>>> = row.try_get(first + 4)?;
    let of_all = bookings.into_iter().zip(starts).zip(ends).zip(units).zip(expiries);
    Ok(of_all
        .filter_map(|((((booking, starts_at), ends_at), unit), expires_at)| {
            claim(booking, starts_at, ends_at, unit, expires_at)
        })
        .collect())
}

/// `None` for one without an extent, which the table's own check does not let in.
fn claim(
    booking: Uuid,
    starts_at: DateTime<Utc>,
    ends_at: DateTime<Utc>,
    unit: Option<i32>,
    expires_at: Option<DateTime<Utc>>,
) -> Option<Claim> {
    let during = Interval::new(starts_at, ends_at).ok()?;
    let unit = unit.and_then(|unit| u32::try_from(unit).ok());
    Some(Claim { booking_id: BookingId(booking), during, unit, expires_at })
}

/// As far as a question can reach: buffers at most a week, zones a day.
const ANY_REACH: TimeDelta = TimeDelta::days(9);
/// As far as the midnights of a date are from one another in all zones.
const ZONES: TimeDelta = TimeDelta::days(1);

/// The instants that a question about `[from, to)` depends on.
///
/// Nights, each by itself, on what overlaps them, in any zone. How others could be moved to make room is nothing that
/// single nights are asked about. The same is worked out in the statement that asks for one resource of an offering.
fn within(
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    reach: Reach,
    offering: Option<&Offering>,
) -> (DateTime<Utc>, DateTime<Utc>) {
    let wide = reach == Reach::Moves || offering.is_some_and(|offering| offering.mode == OfferingMode::Slot);
    let of_buffer = |minutes: Option<u32>| {
        if wide { ANY_REACH } else { ZONES + TimeDelta::minutes(minutes.unwrap_or(0).into()) }
    };
    let before = of_buffer(offering.map(|offering| offering.buffer_before_minutes));
    let after = of_buffer(offering.map(|offering| offering.buffer_after_minutes));
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
