//! What the CPU does for one booking, without a database: deciding, looking for a free place, encoding a leaf. Each
//! beside the plainest way to do the same.
//!
//! `cargo bench --bench micro [-- FILTER]`

#[path = "load/booking.rs"]
mod booking;

use std::{collections::BTreeMap, hint::black_box, time::Duration};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use daybook::eventstore::leaf::{Leaf, format_time, leaf_hash};
use daybook_domain::{
    BookingId, Claim, Decider as _, DomainError, Event as _, Interval, Occupancy, TenantId, booking::Booking,
    envelope::Metadata,
};
use uuid::Uuid;

/// A pool of three hundred units, over two years nearly full: the shape of the sample's city hotel.
const UNITS: i64 = 300;
const CLAIMS: i64 = 80_000;
const NIGHTS: i64 = 3;

fn today() -> NaiveDate {
    NaiveDate::default() + TimeDelta::days(20_000)
}

fn night(number: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000 + number) + TimeDelta::hours(15)
}

fn stay(number: i64) -> Result<Interval, DomainError> {
    Interval::new(night(number), night(number + NIGHTS))
}

fn claims() -> Result<Vec<Claim>, DomainError> {
    (0..CLAIMS)
        .map(|number| {
            Ok(Claim {
                booking_id: BookingId(Uuid::from_u128(number as u128)),
                during: stay(number / UNITS * NIGHTS)?,
                unit: None,
                expires_at: None,
            })
        })
        .collect()
}

/// The most claims at one instant, found by looking at all of them.
fn scan(claims: &[Claim], interval: &Interval) -> usize {
    let overlapping: Vec<_> = claims.iter().filter(|claim| claim.during.overlaps(interval)).collect();
    overlapping
        .iter()
        .map(|claim| claim.during.start().max(interval.start()))
        .map(|at| overlapping.iter().filter(|claim| claim.during.contains_instant(at)).count())
        .max()
        .unwrap_or(0)
}

fn decide(c: &mut Criterion) -> Result<(), DomainError> {
    let (context, command) = booking::a_night(today())?;
    let mut group = c.benchmark_group("booking");
    group.bench_function("decide and apply", |bencher| {
        bencher.iter(|| {
            let mut booking = Booking::default();
            let events = booking.decide(black_box(&command), black_box(&context));
            for event in events.iter().flatten() {
                booking.apply(event);
            }
            booking
        });
    });
    Ok(())
}

fn occupancy(c: &mut Criterion) -> Result<(), DomainError> {
    let claims = claims()?;
    let mut occupancy = Occupancy::default();
    claims.iter().for_each(|claim| occupancy.insert(*claim));
    let (interval, now) = (stay(CLAIMS / UNITS / 2 * NIGHTS + 1)?, night(0));
    let mut group = c.benchmark_group("peak of 3 nights among 80,000 claims on 300 units");
    group.bench_function("index", |bencher| {
        bencher.iter(|| occupancy.peak(black_box(&interval), None, now));
    });
    group.bench_function("plain scan", |bencher| bencher.iter(|| scan(black_box(&claims), &interval)));
    group.finish();

    let mut group = c.benchmark_group("one claim more and one less");
    let extra = Claim { booking_id: BookingId(Uuid::max()), during: interval, ..claims[0] };
    group.bench_function("index", |bencher| {
        bencher.iter(|| {
            occupancy.insert(black_box(extra));
            occupancy.remove(&extra.booking_id)
        });
    });
    Ok(())
}

fn leaf(c: &mut Criterion) -> Result<(), DomainError> {
    let (context, command) = booking::a_night(today())?;
    let event = Booking::default().decide(&command, &context)?.remove(0);
    let time = format_time(context.now);
    let leaf = Leaf {
        tenant: TenantId(Uuid::from_u128(1)),
        position: "123456".into(),
        id: Uuid::from_u128(2),
        event_type: event.type_name().into(),
        version: event.version(),
        aggregate_type: Booking::TYPE.into(),
        aggregate_id: context.id.0,
        sequence: "1".into(),
        recorded_at: time.clone(),
        occurred_at: time,
        metadata: Metadata {
            actor: format!("token:{}", Uuid::from_u128(3)),
            ip: Some("127.0.0.1".into()),
            source: Some("api".into()),
            request_id: Some(Uuid::from_u128(4)),
            ..Metadata::default()
        },
        payload: serde_json::to_value(&event).unwrap_or_default(),
        commitments: BTreeMap::new(),
        nonce: "00112233445566778899aabbccddeeff".into(),
    };
    let mut group = c.benchmark_group("leaf of a booking");
    group.bench_function("canonical (RFC 8785)", |bencher| {
        bencher.iter_batched(|| leaf.clone(), Leaf::encode, BatchSize::SmallInput);
    });
    group.bench_function("the same by serde_json_canonicalizer", |bencher| {
        bencher.iter(|| serde_json_canonicalizer::to_vec(black_box(&leaf)));
    });
    group.bench_function("plain serde_json", |bencher| {
        bencher.iter(|| serde_json::to_vec(black_box(&leaf)));
    });
    let bytes = leaf.encode().unwrap_or_default();
    group.bench_function("hash", |bencher| bencher.iter(|| leaf_hash(black_box(&bytes))));
    group.bench_function("decode", |bencher| bencher.iter(|| Leaf::decode(black_box(&bytes), 123_456)));
    Ok(())
}

fn all(c: &mut Criterion) {
    for part in [decide, occupancy, leaf] {
        if let Err(error) = part(c) {
            eprintln!("cannot be set up: {error}");
        }
    }
}

criterion_group! {
    name = micro;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = all
}
criterion_main!(micro);
