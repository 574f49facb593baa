//! Calendar: how full each resource is on each local date, with arrivals, departures, no-shows and cancellations.
//! Follows the log.
//!
//! A booking counts for the dates it takes up of its resource; a hold counts like any other. What a booking
//! contributed so far follows from its earlier events, so that its next one takes that back exactly.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use daybook_domain::{
    audit_trail::AuditTrailEvent,
    booking::{BookedTime, Booking, BookingEvent, BookingStatus, BookingTerms},
    carried,
    envelope::RecordedEvent,
    registry::AnyEvent,
    resource::ResourceEvent,
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Projection, ProjectionError, Run,
    audit_prunings::pieces,
    inline::{column, int},
};

/// One resource on one local date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CalendarDay {
    /// The resource.
    pub resource_id: Uuid,
    /// The date, on the resource's clock.
    pub day: NaiveDate,
    /// How many units the resource has now.
    pub capacity: i32,
    /// Units booked that night, or at some time that day.
    pub booked: i32,
    /// Bookings that begin.
    pub arrivals: i32,
    /// Bookings that end.
    pub departures: i32,
    /// Bookings that should have begun, and nobody came.
    pub no_shows: i32,
    /// Bookings that would have begun, and were cancelled.
    pub cancellations: i32,
}

/// Every date from `from` up to, and without, `to`, of the resources given; of all that are in use, or were on
/// that date, if none are given. A date without bookings is listed as well.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn list(
    connection: &mut PgConnection,
    resource_ids: Option<&[Uuid]>,
    from: NaiveDate,
    to: NaiveDate,
) -> Result<Vec<CalendarDay>, sqlx::Error> {
    sqlx::query_as!(
        CalendarDay,
        r#"SELECT r.resource_id, g.day::date AS "day!", r.capacity, coalesce(d.booked, 0) AS "booked!",
                  coalesce(d.arrivals, 0) AS "arrivals!", coalesce(d.departures, 0) AS "departures!",
                  coalesce(d.no_shows, 0) AS "no_shows!", coalesce(d.cancellations, 0) AS "cancellations!"
           FROM calendar_resources r
           CROSS JOIN generate_series($2::date::timestamp, $3::date::timestamp - interval '1 day', interval '1 day') AS g (day)
           LEFT JOIN calendar_days d ON d.resource_id = r.resource_id AND d.day = g.day::date
           WHERE ($1::uuid[] IS NULL OR r.resource_id = ANY($1)) AND (NOT r.archived OR d.day IS NOT NULL)
           ORDER BY r.resource_id, g.day"#,
        resource_ids,
        from,
        to
    )
    .fetch_all(connection)
    .await
}

/// The projection.
#[derive(Clone, Copy, Debug)]
pub struct Calendar;

#[async_trait]
impl Projection for Calendar {
    fn name(&self) -> &'static str {
        "calendar"
    }

    fn version(&self) -> i32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["calendar_resources", "calendar_days"]
    }

    fn looks_back(&self, event: &AnyEvent) -> bool {
        matches!(event, AnyEvent::Booking(_))
    }

    fn handles(&self, event: &AnyEvent) -> bool {
        match event {
            AnyEvent::Booking(_)
            | AnyEvent::Resource(_)
            | AnyEvent::AuditTrail(AuditTrailEvent::Pruned(_)) => true,
            AnyEvent::Tenant(_)
            | AnyEvent::Offering(_)
            | AnyEvent::Schedule(_)
            | AnyEvent::Customer(_)
            | AnyEvent::User(_)
            | AnyEvent::Role(_)
            | AnyEvent::ApiKey(_)
            | AnyEvent::Settings(_)
            | AnyEvent::Lead(_)
            | AnyEvent::PermissionGrant(_)
            | AnyEvent::SupportRequest(_)
            | AnyEvent::SupportSession(_)
            | AnyEvent::Hijack(_)
            | AnyEvent::AuditExport(_)
            | AnyEvent::LegalHold(_)
            | AnyEvent::AuditTrail(AuditTrailEvent::CarriedOver(_)) => false,
        }
    }

    async fn apply(
        &self,
        connection: &mut PgConnection,
        run: &Run,
        events: &[RecordedEvent],
    ) -> Result<(), ProjectionError> {
        for (piece, is_pruned) in pieces(events) {
            fold_into_rows(connection, run, piece).await?;
            if is_pruned {
                forget_empty_days(connection).await?;
            }
        }
        Ok(())
    }
}

async fn fold_into_rows(
    connection: &mut PgConnection,
    run: &Run,
    events: &[RecordedEvent],
) -> Result<(), ProjectionError> {
    let mut resources: Vec<(&RecordedEvent, &ResourceEvent)> = Vec::new();
    let mut bookings: Vec<(&RecordedEvent, &BookingEvent)> = Vec::new();
    for event in events {
        match &event.event {
            AnyEvent::Resource(resource) => resources.push((event, resource)),
            AnyEvent::Booking(booking) => bookings.push((event, booking)),
            AnyEvent::Tenant(_)
            | AnyEvent::Offering(_)
            | AnyEvent::Schedule(_)
            | AnyEvent::Customer(_)
            | AnyEvent::User(_)
            | AnyEvent::Role(_)
            | AnyEvent::ApiKey(_)
            | AnyEvent::Settings(_)
            | AnyEvent::Lead(_)
            | AnyEvent::PermissionGrant(_)
            | AnyEvent::SupportRequest(_)
            | AnyEvent::SupportSession(_)
            | AnyEvent::Hijack(_)
            | AnyEvent::AuditExport(_)
            | AnyEvent::LegalHold(_)
            | AnyEvent::AuditTrail(_) => {}
        }
    }
    apply_resources(connection, &resources).await?;
    apply_bookings(connection, run, &bookings).await
}

/// Dates that something touched and nothing remains on: after a pruning a replay would not touch them.
async fn forget_empty_days(connection: &mut PgConnection) -> Result<(), ProjectionError> {
    sqlx::query!(
        "DELETE FROM calendar_days
         WHERE booked = 0 AND arrivals = 0 AND departures = 0 AND no_shows = 0 AND cancellations = 0"
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn apply_resources(
    connection: &mut PgConnection,
    events: &[(&RecordedEvent, &ResourceEvent)],
) -> Result<(), ProjectionError> {
    if events.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = events.iter().map(|(event, _)| event.aggregate_id).collect();
    let known = sqlx::query!(
        "SELECT resource_id, capacity, archived FROM calendar_resources WHERE resource_id = ANY($1)",
        &ids
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut resources: BTreeMap<Uuid, (i32, bool)> =
        known.into_iter().map(|row| (row.resource_id, (row.capacity, row.archived))).collect();
    for (recorded, event) in events {
        let id = recorded.aggregate_id;
        let known = resources.get(&id).copied();
        let known =
            || known.ok_or_else(|| ProjectionError::does_not_follow(recorded, "the resource is unknown"));
        let now = match event {
            ResourceEvent::Created { capacity, .. } => (int(*capacity), false),
            ResourceEvent::Updated { capacity, .. } => {
                let (before, archived) = known()?;
                (capacity.map_or(before, int), archived)
            }
            ResourceEvent::Archived => (known()?.0, true),
            ResourceEvent::CarriedOver(carried) => match carried.standing {
                carried::Standing::Whole => (int(carried.state.capacity), carried.state.archived),
                carried::Standing::Base => known()?,
            },
        };
        resources.insert(id, now);
    }
    let rows: Vec<_> = resources.into_iter().collect();
    sqlx::query!(
        "INSERT INTO calendar_resources (resource_id, capacity, archived)
         SELECT * FROM UNNEST($1::uuid[], $2::integer[], $3::boolean[])
         ON CONFLICT (resource_id) DO UPDATE SET capacity = EXCLUDED.capacity, archived = EXCLUDED.archived",
        &column!(rows, row => row.0),
        &column!(rows, row => row.1.0),
        &column!(rows, row => row.1.1)
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn apply_bookings(
    connection: &mut PgConnection,
    run: &Run,
    events: &[(&RecordedEvent, &BookingEvent)],
) -> Result<(), ProjectionError> {
    let mut stays: HashMap<Uuid, Option<Stay>> = HashMap::new();
    // Dates that were touched are written even where nothing remains of the touch, so that the rows do not
    // depend on where one batch ended and the next began.
    let mut days: BTreeMap<(Uuid, NaiveDate), Counts> = BTreeMap::new();
    for (recorded, event) in events {
        let stay = stays.entry(recorded.aggregate_id).or_insert_with(|| Stay::before(run, recorded));
        let after = fold(stay.as_ref(), event)
            .ok_or_else(|| ProjectionError::does_not_follow(recorded, "the booking was never taken"))?;
        if let Some(before) = stay {
            before.contribute(-1, &mut days);
        }
        after.contribute(1, &mut days);
        *stay = Some(after);
    }
    if days.is_empty() {
        return Ok(());
    }
    write_days(connection, days).await
}

async fn write_days(
    connection: &mut PgConnection,
    days: BTreeMap<(Uuid, NaiveDate), Counts>,
) -> Result<(), ProjectionError> {
    let rows: Vec<_> = days.into_iter().collect();
    sqlx::query!(
        "INSERT INTO calendar_days AS d (resource_id, day, booked, arrivals, departures, no_shows, cancellations)
         SELECT * FROM UNNEST($1::uuid[], $2::date[], $3::integer[], $4::integer[], $5::integer[], $6::integer[],
                              $7::integer[])
         ON CONFLICT (resource_id, day) DO UPDATE
         SET booked = d.booked + EXCLUDED.booked, arrivals = d.arrivals + EXCLUDED.arrivals,
             departures = d.departures + EXCLUDED.departures, no_shows = d.no_shows + EXCLUDED.no_shows,
             cancellations = d.cancellations + EXCLUDED.cancellations",
        &column!(rows, row => row.0.0),
        &column!(rows, row => row.0.1),
        &column!(rows, row => row.1.booked),
        &column!(rows, row => row.1.arrivals),
        &column!(rows, row => row.1.departures),
        &column!(rows, row => row.1.no_shows),
        &column!(rows, row => row.1.cancellations)
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// What a booking means for the days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Booked,
    Cancelled,
    NoShow,
    Void,
}

/// A booking as the calendar sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stay {
    resource_id: Uuid,
    standing: Standing,
    by_nights: bool,
    zone: Tz,
    arrival: NaiveDate,
    departure: NaiveDate,
    /// The first date that is not booked any more.
    booked_until: NaiveDate,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    booked: i32,
    arrivals: i32,
    departures: i32,
    no_shows: i32,
    cancellations: i32,
}

impl Stay {
    /// The booking of an event before it; `None` when it is its first.
    fn before(run: &Run, event: &RecordedEvent) -> Option<Self> {
        run.before(event).fold(None, |stay, earlier| match &earlier.event {
            AnyEvent::Booking(event) => fold(stay.as_ref(), event),
            _ => stay,
        })
    }

    fn of(terms: &BookingTerms) -> Self {
        let zone = terms.when.zone();
        let (by_nights, arrival, departure, booked_until) = match &terms.when {
            BookedTime::Nights { nights, .. } => {
                (true, nights.check_in(), nights.check_out(), nights.check_out())
            }
            BookedTime::Slot { .. } => {
                let (start, end) = (terms.during.start(), terms.during.end());
                (false, local_date(start, zone), local_date(end, zone), after_last_day(end, zone))
            }
        };
        let resource_id = terms.resource_id.0;
        Self { resource_id, standing: Standing::Booked, by_nights, zone, arrival, departure, booked_until }
    }

    /// The booking of a state that was carried over.
    fn carried(booking: &Booking) -> Self {
        let stay = Self::of(&booking.terms());
        let stay = match booking.ended_at {
            Some(ended_at) => stay.ended(ended_at, booking.used.is_some()),
            None => stay,
        };
        let standing = match booking.status {
            BookingStatus::Absent | BookingStatus::Rejected | BookingStatus::Expired => Standing::Void,
            BookingStatus::Held
            | BookingStatus::Pending
            | BookingStatus::Confirmed
            | BookingStatus::CheckedIn
            | BookingStatus::Completed => Standing::Booked,
            BookingStatus::Cancelled => Standing::Cancelled,
            BookingStatus::NoShow => Standing::NoShow,
        };
        Self { standing, ..stay }
    }

    /// The booking after its guest left, perhaps early: dates that were not used are free again.
    fn ended(self, ended_at: DateTime<Utc>, used: bool) -> Self {
        let departure = local_date(ended_at, self.zone).clamp(self.arrival, self.departure);
        let booked_until = match (used, self.by_nights) {
            (false, _) => self.arrival,
            (true, true) => departure,
            (true, false) => after_last_day(ended_at, self.zone).clamp(self.arrival, self.booked_until),
        };
        Self { departure, booked_until, ..self }
    }

    fn contribute(&self, sign: i32, days: &mut BTreeMap<(Uuid, NaiveDate), Counts>) {
        let mut count = |date, add: fn(&mut Counts) -> &mut i32| {
            *add(days.entry((self.resource_id, date)).or_default()) += sign;
        };
        match self.standing {
            Standing::Booked => {
                for date in self.arrival.iter_days().take_while(|date| *date < self.booked_until) {
                    count(date, |day| &mut day.booked);
                }
                count(self.arrival, |day| &mut day.arrivals);
                count(self.departure, |day| &mut day.departures);
            }
            Standing::Cancelled => count(self.arrival, |day| &mut day.cancellations),
            Standing::NoShow => count(self.arrival, |day| &mut day.no_shows),
            Standing::Void => {}
        }
    }
}

/// `None` when the event presumes a booking that is not there.
fn fold(before: Option<&Stay>, event: &BookingEvent) -> Option<Stay> {
    let before = before.copied();
    let standing = |standing| before.map(|stay| Stay { standing, ..stay });
    match event {
        BookingEvent::Held(taken) | BookingEvent::Requested(taken) | BookingEvent::Booked(taken) => {
            Some(Stay::of(&taken.terms))
        }
        BookingEvent::Submitted { resource_id } | BookingEvent::Confirmed { resource_id } => {
            before.map(|stay| Stay { resource_id: resource_id.0, standing: Standing::Booked, ..stay })
        }
        BookingEvent::Rescheduled(terms) | BookingEvent::Reassigned(terms) => {
            before.map(|stay| Stay { standing: stay.standing, ..Stay::of(terms) })
        }
        BookingEvent::CheckedIn { .. } => standing(Standing::Booked),
        BookingEvent::CheckedOut { ended_at, used } => {
            before.map(|stay| stay.ended(*ended_at, used.is_some()))
        }
        BookingEvent::Cancelled { .. } => standing(Standing::Cancelled),
        BookingEvent::NoShow => standing(Standing::NoShow),
        BookingEvent::Rejected | BookingEvent::Expired => standing(Standing::Void),
        BookingEvent::CarriedOver(carried) => match carried.standing {
            carried::Standing::Whole => Some(Stay::carried(&carried.state)),
            carried::Standing::Base => before,
        },
    }
}

fn local_date(at: DateTime<Utc>, zone: Tz) -> NaiveDate {
    at.with_timezone(&zone).date_naive()
}

/// The date after the last one that an interval up to `end` touches.
fn after_last_day(end: DateTime<Utc>, zone: Tz) -> NaiveDate {
    let last = local_date(end - TimeDelta::microseconds(1), zone);
    last.succ_opt().unwrap_or(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESOURCE: Uuid = Uuid::from_u128(7);

    fn date(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn stay(arrival: &str, departure: &str) -> Stay {
        Stay {
            resource_id: RESOURCE,
            standing: Standing::Booked,
            by_nights: true,
            zone: Tz::Europe__Brussels,
            arrival: date(arrival),
            departure: date(departure),
            booked_until: date(departure),
        }
    }

    fn days(stays: &[(i32, Stay)]) -> Vec<(String, Counts)> {
        let mut days = BTreeMap::new();
        for (sign, stay) in stays {
            stay.contribute(*sign, &mut days);
        }
        days.into_iter().map(|((_, day), counts)| (day.to_string(), counts)).collect()
    }

    #[test]
    fn a_stay_is_booked_on_its_nights_and_departs_on_the_day_after() {
        assert_eq!(
            days(&[(1, stay("2026-05-01", "2026-05-03"))]),
            [
                ("2026-05-01".into(), Counts { booked: 1, arrivals: 1, ..Counts::default() }),
                ("2026-05-02".into(), Counts { booked: 1, ..Counts::default() }),
                ("2026-05-03".into(), Counts { departures: 1, ..Counts::default() }),
            ]
        );
    }

    #[test]
    fn what_an_event_takes_back_leaves_its_dates_at_zero() {
        let booked = stay("2026-05-01", "2026-05-02");
        let cancelled = fold(Some(&booked), &BookingEvent::Expired).unwrap();
        let days = days(&[(1, booked), (-1, booked), (1, cancelled)]);
        assert_eq!(days.len(), 2);
        assert!(days.iter().all(|(_, counts)| *counts == Counts::default()));
    }

    #[test]
    fn leaving_early_frees_the_nights_that_were_not_used() {
        let left = stay("2026-05-01", "2026-05-05").ended(at("2026-05-03T08:00:00Z"), true);
        assert_eq!((left.departure, left.booked_until), (date("2026-05-03"), date("2026-05-03")));
        let unused = stay("2026-05-01", "2026-05-05").ended(at("2026-05-01T20:00:00Z"), false);
        assert_eq!((unused.departure, unused.booked_until), (date("2026-05-01"), date("2026-05-01")));
    }

    #[test]
    fn an_appointment_that_ends_at_midnight_is_not_booked_on_the_next_day() {
        assert_eq!(after_last_day(at("2026-05-01T22:00:00Z"), Tz::Europe__Brussels), date("2026-05-02"));
        assert_eq!(after_last_day(at("2026-05-01T22:00:01Z"), Tz::Europe__Brussels), date("2026-05-03"));
    }

    #[test]
    fn an_event_of_a_booking_never_taken_does_not_follow() {
        assert_eq!(fold(None, &BookingEvent::NoShow), None);
    }
}
