//! The bookings of the sample tenant: in every state, of the past half year and the months to come.

use chrono::{DateTime, Datelike as _, TimeDelta, Utc, Weekday};
use daybook_domain::{
    BookingId, CustomerId, DomainError, Nights, OfferingId, Personal,
    booking::{BookingCommand, RequestedTime, SlotStart},
    text::Notes,
};

use super::{
    content::{House, UNUSUAL},
    script::Script,
};
use crate::eventstore::Command;

/// The same sequence every night: what support saw yesterday is there today.
const SEED: u64 = 0x5eed_0f5a_11d4_7a00;

const NOTES: [&str; 5] = [
    "Late arrival",
    "Needs a cot",
    "Allergic to nuts",
    "Would like to be close to the water",
    "Comes by train; please fetch from the station",
];

/// splitmix64: small, and the same everywhere.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % most.max(1)
    }

    fn days(&mut self, from: i64, until: i64) -> i64 {
        from + i64::try_from(self.below(until.abs_diff(from))).unwrap_or(0)
    }
}

/// One booking to be: what, for whom, from when to when.
struct Order {
    name: String,
    offering: OfferingId,
    customer: CustomerId,
    when: RequestedTime,
    start: DateTime<Utc>,
    end: DateTime<Utc>,
    /// When it was booked.
    booked: DateTime<Utc>,
    guests: u32,
    notes: Option<&'static str>,
    approval: bool,
    /// Decides what becomes of it.
    turn: usize,
}

/// Every booking with all that became of it.
///
/// # Errors
/// When something of it is not what the domain accepts.
pub fn script(script: &mut Script, house: &House) -> Result<(), DomainError> {
    let mut chance = Chance(SEED);
    let mut orders = Vec::new();
    for turn in 0..115 {
        let offering = if turn % 6 == 5 { house.pitch_kept } else { house.pitch };
        // Some came yesterday.
        let arrival = if turn % 20 == 4 { -1 } else { chance.days(-120, 75) };
        orders.push(stay(script, house, &mut chance, ("pitch", offering, false), arrival, turn)?);
    }
    for turn in 0..50 {
        let arrival = chance.days(-120, 75);
        orders.push(stay(script, house, &mut chance, ("lodge", house.lodge, false), arrival, turn)?);
    }
    // One unit: one after the other.
    for turn in 0_usize..14 {
        let arrival = -110 + 13 * i64::try_from(turn).unwrap_or(0);
        orders.push(stay(script, house, &mut chance, ("mill", house.mill, true), arrival, turn)?);
    }
    for (name, offering, count, first, every, minutes, approval) in [
        ("room", house.room, 36_usize, -66, 3, 60, false),
        ("bike", house.bike, 26, -50, 4, 240, false),
        ("walk", house.walk, 16, -63, 7, 120, true),
    ] {
        for turn in 0..count {
            let offset = usual(script, first + every * i64::try_from(turn).unwrap_or(0));
            let hour = chance.days(10, 13);
            let order =
                slot(script, house, &mut chance, (name, offering, approval), offset, hour, minutes, turn);
            orders.push(order);
        }
    }
    for order in &orders {
        take(script, house, order)?;
    }
    Ok(())
}

/// The first day from there on when the houses with hours are open as usual.
fn usual(script: &Script, mut offset: i64) -> i64 {
    while UNUSUAL.contains(&offset) || script.date(offset).weekday() == Weekday::Sun {
        offset += 1;
    }
    offset
}

fn stay(
    script: &Script,
    house: &House,
    chance: &mut Chance,
    (kind, offering, approval): (&str, OfferingId, bool),
    arrival: i64,
    turn: usize,
) -> Result<Order, DomainError> {
    let departure = arrival + chance.days(2, 6);
    let nights = Nights::new(script.date(arrival), script.date(departure))?;
    let (start, end) = (script.at(arrival, 15 * 60), script.at(departure, 10 * 60));
    let what = (kind, offering, approval);
    Ok(order(script, house, chance, what, RequestedTime::Nights(nights), (start, end), turn))
}

#[expect(clippy::too_many_arguments, reason = "each is one thing that is known of an appointment")]
fn slot(
    script: &Script,
    house: &House,
    chance: &mut Chance,
    what: (&str, OfferingId, bool),
    offset: i64,
    hour: i64,
    minutes: i64,
    turn: usize,
) -> Order {
    let local = script.date(offset).and_time(chrono::NaiveTime::MIN) + TimeDelta::hours(hour);
    let when = RequestedTime::Slot { start: SlotStart::Local(local), ends_at: None };
    let start = script.at(offset, hour * 60);
    order(script, house, chance, what, when, (start, start + TimeDelta::minutes(minutes)), turn)
}

fn order(
    script: &Script,
    house: &House,
    chance: &mut Chance,
    (kind, offering, approval): (&str, OfferingId, bool),
    when: RequestedTime,
    (start, end): (DateTime<Utc>, DateTime<Utc>),
    turn: usize,
) -> Order {
    let ahead = TimeDelta::hours(chance.days(5 * 24, 40 * 24));
    let ago = TimeDelta::hours(chance.days(3, 20 * 24));
    let customer = usize::try_from(chance.below(house.customers.len() as u64)).unwrap_or(0);
    let note = usize::try_from(chance.below(15)).unwrap_or(0);
    Order {
        name: format!("{kind} {turn}"),
        offering,
        customer: house.customers[customer],
        when,
        start,
        end,
        booked: (start - ahead).min(script.now - ago),
        guests: 1 + u32::try_from(chance.below(4)).unwrap_or(0),
        notes: NOTES.get(note).copied(),
        approval,
        turn,
    }
}

/// Books it, and lets happen to it what its turn says.
fn take(script: &mut Script, house: &House, order: &Order) -> Result<(), DomainError> {
    let now = script.now;
    let (past, begun) = (order.end <= now, order.start <= now);
    // A lodge can be held; one that is held now was so just now, and runs out in a day.
    let holds = order.offering == house.lodge && order.turn % 5 == 4 && (past || !begun);
    let booked = if holds && !past { now } else { order.booked };
    let id = BookingId(script.id(&order.name, booked));
    let book = BookingCommand::Book {
        offering_id: order.offering,
        resource_id: None,
        unit: None,
        customer_id: order.customer,
        when: order.when.clone(),
        guests: order.guests,
        hold: holds,
        notes: order.notes.map(|text| Notes::new(text, "/notes")).transpose()?.map(Personal::new),
        price_override: None,
    };
    script.step(booked, house.reception, Command::create(id, book));
    let command = |command| Command::to(id, command);
    if holds {
        if past {
            script.step_of_the_system(booked + TimeDelta::hours(25), command(BookingCommand::Expire));
        }
        return Ok(());
    }
    if order.approval {
        let answered = booked + TimeDelta::hours(2);
        if order.turn % 5 == 2 {
            script.step_because(answered, house.manager, command(BookingCommand::Reject), "not in that week");
            return Ok(());
        }
        // Some of those to come wait for an answer.
        if !begun && order.turn.is_multiple_of(2) {
            return Ok(());
        }
        script.step(answered, house.manager, command(BookingCommand::Confirm));
    }
    if order.turn % 9 == 3 {
        cancel(script, house, order, id);
        return Ok(());
    }
    if order.turn % 11 == 5 && !begun {
        move_on(script, house, order, id)?;
        return Ok(());
    }
    if order.turn % 13 == 7 && past {
        script.step(order.start + TimeDelta::hours(1), house.reception, command(BookingCommand::NoShow));
        return Ok(());
    }
    if begun {
        script.step(order.start, house.reception, command(BookingCommand::CheckIn { unit: None }));
    }
    if past {
        script.step(order.end, house.reception, command(BookingCommand::CheckOut));
    }
    Ok(())
}

/// In time, late for a fee, or late and forgiven.
fn cancel(script: &mut Script, house: &House, order: &Order, id: BookingId) {
    let hours = if order.turn.is_multiple_of(2) { 10 } else { 60 };
    let at = (order.start - TimeDelta::hours(hours)).max(order.booked);
    let waive_fee = order.turn.is_multiple_of(4);
    let cancel = Command::to(id, BookingCommand::Cancel { waive_fee });
    script.step_because(at, house.reception, cancel, "asked by telephone");
}

/// To a week later, where it is free as before.
fn move_on(script: &mut Script, house: &House, order: &Order, id: BookingId) -> Result<(), DomainError> {
    let RequestedTime::Nights(nights) = &order.when else { return Ok(()) };
    let later = |date: chrono::NaiveDate| date + chrono::Days::new(7);
    let when = RequestedTime::Nights(Nights::new(later(nights.check_in()), later(nights.check_out()))?);
    let reschedule = Command::to(id, BookingCommand::Reschedule { when, resource_id: None });
    let at = order.booked + TimeDelta::hours(1);
    script.step_because(at, house.reception, reschedule, "the guests come a week later");
    Ok(())
}
