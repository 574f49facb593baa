//! Pace: what is on the books per date of arrival, by how long before arrival it was booked. Follows the log.
//!
//! A booking is on the books from its confirmation on; it was booked when its first event happened, which for
//! imported history is long before it was recorded. Cancelled bookings and no-shows are counted apart, and only
//! if they were on the books before. Nights are those of stays; appointments count as bookings without nights.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use chrono::NaiveDate;
use daybook_domain::{
    CarriedOver,
    audit_trail::AuditTrailEvent,
    booking::{BookedTime, Booking, BookingEvent, BookingStatus, BookingTerms},
    carried,
    envelope::RecordedEvent,
    registry::AnyEvent,
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Projection, ProjectionError, Run,
    audit_prunings::pieces,
    inline::{column, int},
};

/// The least days of lead time of each bucket.
pub const LEAD_BUCKETS: [i32; 9] = [0, 1, 4, 8, 15, 31, 61, 91, 181];

/// How arrivals are grouped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PaceBy {
    /// By date.
    #[default]
    Date,
    /// By calendar month; the row's date is its first.
    Month,
}

/// What is on the books for arrivals of a date or month, of one bucket of lead time and one currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaceRow {
    /// The date, or the first of the month.
    pub arrival: NaiveDate,
    /// The least days of lead time of the bucket.
    pub lead_from: i32,
    /// The currency of the revenue.
    pub currency: String,
    /// Bookings on the books.
    pub bookings: i64,
    /// Their nights.
    pub nights: i64,
    /// Their price in minor units.
    pub revenue: i64,
    /// Bookings that were cancelled.
    pub cancelled_bookings: i64,
    /// Their nights.
    pub cancelled_nights: i64,
    /// Bookings nobody came for.
    pub no_shows: i64,
    /// Their nights.
    pub no_show_nights: i64,
}

impl PaceRow {
    /// The first lead time past the bucket; none for the last.
    pub fn lead_until(&self) -> Option<i32> {
        LEAD_BUCKETS.into_iter().find(|from| *from > self.lead_from)
    }
}

/// The report for arrivals from `from` up to, and without, `to`.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn list(
    connection: &mut PgConnection,
    from: NaiveDate,
    to: NaiveDate,
    by: PaceBy,
) -> Result<Vec<PaceRow>, sqlx::Error> {
    let unit = match by {
        PaceBy::Date => "day",
        PaceBy::Month => "month",
    };
    sqlx::query_as!(
        PaceRow,
        r#"SELECT date_trunc($3, arrival::timestamp)::date AS "arrival!", lead_from, currency,
                  sum(bookings)::bigint AS "bookings!", sum(nights)::bigint AS "nights!",
                  sum(revenue)::bigint AS "revenue!", sum(cancelled_bookings)::bigint AS "cancelled_bookings!",
                  sum(cancelled_nights)::bigint AS "cancelled_nights!", sum(no_shows)::bigint AS "no_shows!",
                  sum(no_show_nights)::bigint AS "no_show_nights!"
           FROM pace WHERE arrival >= $1 AND arrival < $2
           GROUP BY 1, 2, 3
           HAVING sum(bookings) <> 0 OR sum(cancelled_bookings) <> 0 OR sum(no_shows) <> 0
           ORDER BY 1, 2, 3"#,
        from,
        to,
        unit
    )
    .fetch_all(connection)
    .await
}

/// The projection.
#[derive(Clone, Copy, Debug)]
pub struct Pace;

#[async_trait]
impl Projection for Pace {
    fn name(&self) -> &'static str {
        "pace"
    }

    fn version(&self) -> i32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["pace"]
    }

    fn looks_back(&self, event: &AnyEvent) -> bool {
        matches!(event, AnyEvent::Booking(_))
    }

    fn handles(&self, event: &AnyEvent) -> bool {
        match event {
            AnyEvent::Booking(_) | AnyEvent::AuditTrail(AuditTrailEvent::Pruned(_)) => true,
            AnyEvent::Tenant(_)
            | AnyEvent::Resource(_)
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
                forget_empty_totals(connection).await?;
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
    let bookings: Vec<(&RecordedEvent, &BookingEvent)> = events
        .iter()
        .filter_map(|event| match &event.event {
            AnyEvent::Booking(booking) => Some((event, booking)),
            AnyEvent::Tenant(_)
            | AnyEvent::Resource(_)
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
            | AnyEvent::AuditTrail(_) => None,
        })
        .collect();
    let mut entries: HashMap<Uuid, Option<Entry>> = HashMap::new();
    let mut totals = Totals::new();
    for (recorded, event) in bookings {
        let entry = entries.entry(recorded.aggregate_id).or_insert_with(|| Entry::before(run, recorded));
        let after = fold(entry.as_ref(), event, recorded)
            .ok_or_else(|| ProjectionError::does_not_follow(recorded, "the booking was never taken"))?;
        if let Some(before) = entry {
            before.contribute(-1, &mut totals);
        }
        after.contribute(1, &mut totals);
        *entry = Some(after);
    }
    if totals.is_empty() {
        return Ok(());
    }
    write_totals(connection, totals).await
}

/// Totals that something touched and nothing remains of: after a pruning a replay would not touch them.
async fn forget_empty_totals(connection: &mut PgConnection) -> Result<(), ProjectionError> {
    sqlx::query!(
        "DELETE FROM pace
         WHERE bookings = 0 AND nights = 0 AND revenue = 0 AND cancelled_bookings = 0 AND cancelled_nights = 0
           AND no_shows = 0 AND no_show_nights = 0"
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_totals(connection: &mut PgConnection, totals: Totals) -> Result<(), ProjectionError> {
    let rows: Vec<_> = totals.into_iter().collect();
    sqlx::query!(
        "INSERT INTO pace AS p (arrival, lead_from, currency, bookings, nights, revenue, cancelled_bookings,
                                cancelled_nights, no_shows, no_show_nights)
         SELECT * FROM UNNEST($1::date[], $2::integer[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[],
                              $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[])
         ON CONFLICT (arrival, lead_from, currency) DO UPDATE
         SET bookings = p.bookings + EXCLUDED.bookings, nights = p.nights + EXCLUDED.nights,
             revenue = p.revenue + EXCLUDED.revenue,
             cancelled_bookings = p.cancelled_bookings + EXCLUDED.cancelled_bookings,
             cancelled_nights = p.cancelled_nights + EXCLUDED.cancelled_nights,
             no_shows = p.no_shows + EXCLUDED.no_shows, no_show_nights = p.no_show_nights + EXCLUDED.no_show_nights",
        &column!(rows, row => row.0.0),
        &column!(rows, row => row.0.1),
        &column!(rows, row => row.0.2.clone()),
        &column!(rows, row => row.1.bookings),
        &column!(rows, row => row.1.nights),
        &column!(rows, row => row.1.revenue),
        &column!(rows, row => row.1.cancelled_bookings),
        &column!(rows, row => row.1.cancelled_nights),
        &column!(rows, row => row.1.no_shows),
        &column!(rows, row => row.1.no_show_nights)
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// What a booking means for the books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Held or awaiting approval.
    Open,
    OnBooks,
    Cancelled,
    NoShow,
    /// Over without ever having been on the books.
    Void,
}

impl Standing {
    /// How a booking ends that is on the books, and one that never was.
    fn end(self, as_ended: Self) -> Self {
        match self {
            Self::OnBooks => as_ended,
            Self::Open | Self::Void => Self::Void,
            Self::Cancelled | Self::NoShow => self,
        }
    }
}

/// A booking as the books see it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    booked_on: NaiveDate,
    standing: Standing,
    arrival: NaiveDate,
    nights: i32,
    currency: String,
    amount: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    bookings: i64,
    nights: i64,
    revenue: i64,
    cancelled_bookings: i64,
    cancelled_nights: i64,
    no_shows: i64,
    no_show_nights: i64,
}

type Totals = BTreeMap<(NaiveDate, i32, String), Counts>;

impl Entry {
    /// The booking of an event before it; `None` when it is its first.
    fn before(run: &Run, event: &RecordedEvent) -> Option<Self> {
        run.before(event).fold(None, |entry, earlier| match &earlier.event {
            AnyEvent::Booking(event) => fold(entry.as_ref(), event, earlier),
            _ => entry,
        })
    }

    fn taken(terms: &BookingTerms, standing: Standing, recorded: &RecordedEvent) -> Self {
        let booked_on = recorded.occurred_at.with_timezone(&terms.when.zone()).date_naive();
        let entry =
            Self { booked_on, standing, arrival: booked_on, nights: 0, currency: String::new(), amount: 0 };
        entry.with_terms(terms)
    }

    /// The booking of a state that was carried over; `None` where that does not say how it began.
    fn carried(carried: &CarriedOver<Booking>) -> Option<Self> {
        let booked = carried.past.booked?;
        let standing = match (booked.confirmed, carried.state.status) {
            (false, BookingStatus::Held | BookingStatus::Pending) => Standing::Open,
            (
                true,
                BookingStatus::Held
                | BookingStatus::Pending
                | BookingStatus::Confirmed
                | BookingStatus::CheckedIn
                | BookingStatus::Completed,
            ) => Standing::OnBooks,
            (true, BookingStatus::Cancelled | BookingStatus::Rejected | BookingStatus::Expired) => {
                Standing::Cancelled
            }
            (true, BookingStatus::NoShow) => Standing::NoShow,
            (_, BookingStatus::Absent)
            | (
                false,
                BookingStatus::Confirmed
                | BookingStatus::CheckedIn
                | BookingStatus::Completed
                | BookingStatus::Cancelled
                | BookingStatus::Rejected
                | BookingStatus::Expired
                | BookingStatus::NoShow,
            ) => Standing::Void,
        };
        let (booked_on, currency) = (booked.on, String::new());
        let entry = Self { booked_on, standing, arrival: booked_on, nights: 0, currency, amount: 0 };
        Some(entry.with_terms(&carried.state.terms()))
    }

    fn with_terms(self, terms: &BookingTerms) -> Self {
        let (arrival, nights) = match &terms.when {
            BookedTime::Nights { nights, .. } => (nights.check_in(), int(nights.count())),
            BookedTime::Slot { zone, .. } => (terms.during.start().with_timezone(zone).date_naive(), 0),
        };
        let (currency, amount) = (terms.price.currency.to_string(), terms.price.amount);
        Self { arrival, nights, currency, amount, ..self }
    }

    /// Arrivals before the booking (walk-ins entered late) have no lead time.
    fn lead_from(&self) -> i32 {
        let days = (self.arrival - self.booked_on).num_days();
        LEAD_BUCKETS.into_iter().rev().find(|from| i64::from(*from) <= days).unwrap_or(0)
    }

    fn contribute(&self, sign: i64, totals: &mut Totals) {
        let nights = i64::from(self.nights);
        let add = match self.standing {
            Standing::OnBooks => Counts { bookings: 1, nights, revenue: self.amount, ..Counts::default() },
            Standing::Cancelled => {
                Counts { cancelled_bookings: 1, cancelled_nights: nights, ..Counts::default() }
            }
            Standing::NoShow => Counts { no_shows: 1, no_show_nights: nights, ..Counts::default() },
            Standing::Open | Standing::Void => return,
        };
        let key = (self.arrival, self.lead_from(), self.currency.clone());
        totals.entry(key).or_default().add(sign, add);
    }
}

impl Counts {
    fn add(&mut self, sign: i64, other: Self) {
        self.bookings += sign * other.bookings;
        self.nights += sign * other.nights;
        self.revenue += sign * other.revenue;
        self.cancelled_bookings += sign * other.cancelled_bookings;
        self.cancelled_nights += sign * other.cancelled_nights;
        self.no_shows += sign * other.no_shows;
        self.no_show_nights += sign * other.no_show_nights;
    }
}

/// `None` when the event presumes a booking that is not there.
fn fold(before: Option<&Entry>, event: &BookingEvent, recorded: &RecordedEvent) -> Option<Entry> {
    let before = before.cloned();
    match event {
        BookingEvent::Held(taken) | BookingEvent::Requested(taken) => {
            Some(Entry::taken(&taken.terms, Standing::Open, recorded))
        }
        BookingEvent::Booked(taken) => Some(Entry::taken(&taken.terms, Standing::OnBooks, recorded)),
        BookingEvent::Submitted { .. } => before,
        BookingEvent::Confirmed { .. } => before.map(|entry| Entry { standing: Standing::OnBooks, ..entry }),
        BookingEvent::Rescheduled(terms) | BookingEvent::Reassigned(terms) => {
            before.map(|entry| entry.with_terms(terms))
        }
        BookingEvent::CheckedIn { .. } | BookingEvent::CheckedOut { .. } => before,
        BookingEvent::Cancelled { .. } => {
            before.map(|entry| Entry { standing: entry.standing.end(Standing::Cancelled), ..entry })
        }
        BookingEvent::NoShow => {
            before.map(|entry| Entry { standing: entry.standing.end(Standing::NoShow), ..entry })
        }
        BookingEvent::Rejected | BookingEvent::Expired => {
            before.map(|entry| Entry { standing: entry.standing.end(Standing::Cancelled), ..entry })
        }
        BookingEvent::CarriedOver(carried) => match carried.standing {
            carried::Standing::Whole => Entry::carried(carried),
            carried::Standing::Base => before,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(booked_on: &str, arrival: &str, standing: Standing) -> Entry {
        Entry {
            booked_on: booked_on.parse().unwrap(),
            standing,
            arrival: arrival.parse().unwrap(),
            nights: 2,
            currency: "EUR".into(),
            amount: 20_000,
        }
    }

    #[test]
    fn lead_time_falls_into_its_bucket() {
        let lead = |booked, arrival| entry(booked, arrival, Standing::Open).lead_from();
        assert_eq!(lead("2026-05-01", "2026-05-01"), 0);
        assert_eq!(lead("2026-05-02", "2026-05-01"), 0);
        assert_eq!(lead("2026-05-01", "2026-05-04"), 1);
        assert_eq!(lead("2026-05-01", "2026-05-05"), 4);
        assert_eq!(lead("2025-05-01", "2026-05-05"), 181);
    }

    #[test]
    fn a_cancelled_booking_leaves_the_books_and_is_counted_apart() {
        let before = entry("2026-04-01", "2026-05-01", Standing::OnBooks);
        let after = Entry { standing: before.standing.end(Standing::Cancelled), ..before.clone() };
        let mut totals = Totals::new();
        before.contribute(1, &mut totals);
        before.contribute(-1, &mut totals);
        after.contribute(1, &mut totals);
        let counts: Vec<_> = totals.values().copied().collect();
        assert_eq!(counts, [Counts { cancelled_bookings: 1, cancelled_nights: 2, ..Counts::default() }]);
    }

    #[test]
    fn a_hold_that_runs_out_was_never_on_the_books() {
        assert_eq!(Standing::Open.end(Standing::Cancelled), Standing::Void);
    }
}
