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

/// As far as a question can reach: buffers at most a week, zones a day.
const ANY_REACH: TimeDelta = TimeDelta::days(9);
/// As far as the midnights of a date are from one another in all zones.
const ZONES: TimeDelta = TimeDelta::days(1);

/// The instants between which the claims on an offering's resources matter to a question about `[$2, $3)`: of nights, each by
/// itself, what overlaps them, in any zone; of slots, and of how others could be moved (`$4`), as far as anything reaches.
///
/// Terms name all their resources: without those they are small, and read once. What is past a fence (`OFFSET 0`) is worked
/// out once, not for each claim.
macro_rules! window {
    () => {
        "CROSS JOIN LATERAL (
             SELECT m.terms,
                    $2 - CASE WHEN wide THEN $5 ELSE $6 + make_interval(mins => t.buffer_before_minutes) END AS since,
                    $3 + CASE WHEN wide THEN $5 ELSE $6 + make_interval(mins => t.buffer_after_minutes) END AS until
             FROM (SELECT o.terms || '{\"resource_ids\": []}' OFFSET 0) AS m (terms),
                  jsonb_to_record(m.terms) AS t (
                      mode text, buffer_before_minutes integer, buffer_after_minutes integer),
                  LATERAL (SELECT $4 OR t.mode = 'slot') AS of_mode (wide)
             OFFSET 0
         ) AS w "
    };
}

/// The claims on a resource between two instants, as a row: a second question would take longer than their answer, and a row
/// of each longer than they do.
macro_rules! claims {
    ($since:literal, $until:literal) => {
        concat!(
            "CROSS JOIN LATERAL (
                 SELECT array_agg(booking_id), array_agg(starts_at), array_agg(ends_at), array_agg(unit),
                        array_agg(expires_at)
                 FROM slot_overlaps(r.id, ",
            $since,
            ", ",
            $until,
            ")) AS c "
        )
    };
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
    let moves = reach == Reach::Moves;
    let rows = match asked {
        Asked::Offering(offering, Some(resource)) => {
            sqlx::query(concat!(
                "SELECT clock_timestamp(), o.id, o.archived, w.terms, r.id, r.name, r.kind, r.capacity, r.time_zone,
                        r.archived, c.*, s.id, s.name, s.resource_ids, s.rules
                 FROM offerings o ",
                window!(),
                "LEFT JOIN resources r ON r.id = $7 AND r.id = ANY (o.resource_ids)
                 LEFT JOIN schedules s ON NOT s.archived AND s.resource_ids @> ARRAY[r.id] ",
                claims!("w.since", "w.until"),
                "WHERE o.id = $1"
            ))
            .bind(offering.0)
            .bind(from)
            .bind(to)
            .bind(moves)
            .bind(ANY_REACH)
            .bind(ZONES)
            .bind(resource.0)
            .fetch_all(&mut *connection)
            .await?
        }
        Asked::Offering(offering, None) => {
            // What is large and the same for all resources is sent once: the terms here, a schedule below.
            sqlx::query(concat!(
                "SELECT clock_timestamp(), o.id, o.archived, CASE WHEN coalesce(n, 1) = 1 THEN o.terms END, r.id,
                        r.name, r.kind, r.capacity, r.time_zone, r.archived, c.*, NULL::uuid
                 FROM offerings o ",
                window!(),
                "LEFT JOIN LATERAL unnest(o.resource_ids) WITH ORDINALITY AS named (id, n) ON true
                 LEFT JOIN resources r ON r.id = named.id ",
                claims!("w.since", "w.until"),
                "WHERE o.id = $1 ORDER BY n"
            ))
            .bind(offering.0)
            .bind(from)
            .bind(to)
            .bind(moves)
            .bind(ANY_REACH)
            .bind(ZONES)
            .fetch_all(&mut *connection)
            .await?
        }
        Asked::Resource(resource) => {
            let reach = if moves { ANY_REACH } else { ZONES };
            sqlx::query(concat!(
                "SELECT clock_timestamp(), NULL::uuid, NULL::boolean, NULL::jsonb, r.id, r.name, r.kind, r.capacity,
                        r.time_zone, r.archived, c.*, s.id, s.name, s.resource_ids, s.rules
                 FROM resources r LEFT JOIN schedules s ON NOT s.archived AND s.resource_ids @> ARRAY[r.id] ",
                claims!("$2", "$3"),
                "WHERE r.id = $1"
            ))
            .bind(resource.0)
            .bind(from.checked_sub_signed(reach).unwrap_or(from))
            .bind(to.checked_add_signed(reach).unwrap_or(to))
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
        for candidate in &mut candidates {
            candidate.schedule = schedules.get(&candidate.id()).cloned();
        }
    } else if let Some(offering) = &mut offering {
        offering.terms.resource_ids = candidates.iter().map(Candidate::id).collect();
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

/// The claims on a resource from five columns of arrays.
fn occupancy(row: &PgRow, first: usize) -> Result<Occupancy, sqlx::Error> {
    let Some(bookings) = row.try_get::<Option<Vec<Uuid>>, _>(first)? else { return Ok(Occupancy::default()) };
    let starts: Vec<DateTime<Utc>> = row.try_get(first + 1)?;
    let ends: Vec<DateTime<Utc>> = row.try_get(first + 2)?;
    let units: Vec<Option<i32>> = row.try_get(first + 3)?;
    let expiries: Vec<Option<DateTime<Utc>>> = row.try_get(first + 4)?;
    let of_each = bookings.into_iter().zip(starts).zip(ends).zip(units).zip(expiries);
    Ok(of_each
        .filter_map(|((((booking, starts_at), ends_at), unit), expires_at)| {
            // The table's own check keeps every claim's end after its start.
            let during = Interval::new(starts_at, ends_at).ok()?;
            let unit = unit.and_then(|unit| u32::try_from(unit).ok());
            Some(Claim { booking_id: BookingId(booking), during, unit, expires_at })
        })
        .collect())
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
    let occupancy = Arc::new(occupancy(row, 10)?);
    let schedule = schedule(row, 15)?.map(Arc::new);
    Ok(Some(Candidate { resource: Arc::new(resource), schedule, occupancy }))
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
