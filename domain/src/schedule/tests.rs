use chrono::{Days, Duration};
use chrono_tz::{Europe::Brussels, Tz};
use cqrs_es::test::TestFramework;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::{Interval, Nights};

const ROOM: ResourceId = ResourceId(Uuid::from_u128(1));

fn context() -> ScheduleContext {
    ScheduleContext { now: DateTime::UNIX_EPOCH, id: ScheduleId::default(), resources: vec![(ROOM, true)] }
}

fn time(text: &str) -> LocalTime {
    LocalTime::parse(text).unwrap()
}

fn date(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn utc(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn name(text: &str) -> Name {
    Name::new(text, "/name").unwrap()
}

fn rule(days: &[Day], opens: &str, closes: &str) -> WeeklyRule {
    WeeklyRule { days: days.to_vec(), opens: time(opens), closes: time(closes) }
}

const WEEKDAYS: &[Day] = &[Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri];
const ALL_DAYS: &[Day] = &[Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri, Day::Sat, Day::Sun];

fn schedule(rules: Rules) -> Schedule {
    Schedule {
        id: Some(ScheduleId::default()),
        name: name("Hours"),
        resource_ids: vec![ROOM],
        rules,
        archived: false,
    }
}

fn office() -> Rules {
    Rules {
        weekly: vec![rule(WEEKDAYS, "09:00", "12:00"), rule(WEEKDAYS, "13:00", "17:00")],
        ..Rules::default()
    }
}

fn open(rules: Rules, on: &str) -> Vec<String> {
    schedule(rules)
        .open_windows(date(on), Brussels)
        .iter()
        .map(|w| format!("{}/{}", w.start().format("%dT%H:%M"), w.end().format("%dT%H:%M")))
        .collect()
}

#[test]
fn weekly_rules_are_local_time_converted_per_date() {
    assert_eq!(open(office(), "2026-01-05"), ["05T08:00/05T11:00", "05T12:00/05T16:00"]);
    assert_eq!(open(office(), "2026-07-06"), ["06T07:00/06T10:00", "06T11:00/06T15:00"]);
    assert!(open(office(), "2026-01-04").is_empty());
    assert_eq!(open(Rules::default(), "2026-01-04"), ["03T23:00/04T23:00"]);
}

#[test]
fn a_season_overrides_the_week_an_exception_the_season_and_a_block_all() {
    let summer = Season {
        name: name("Summer"),
        from: date("2026-07-01"),
        until: date("2026-08-01"),
        weekly: vec![rule(ALL_DAYS, "08:00", "20:00")],
    };
    let mut rules = Rules { seasons: vec![summer], ..office() };
    assert_eq!(open(rules.clone(), "2026-07-05"), ["05T06:00/05T18:00"]);
    rules.exceptions.push(DatedException {
        date: date("2026-07-05"),
        windows: vec![Window { opens: time("10:00"), closes: time("11:00") }],
    });
    assert_eq!(open(rules.clone(), "2026-07-05"), ["05T08:00/05T09:00"]);
    rules.blocks.push(Block {
        from: "2026-07-05T10:15:00".parse().unwrap(),
        until: "2026-07-05T10:30:00".parse().unwrap(),
        note: Some(name("Cleaning")),
    });
    assert_eq!(open(rules.clone(), "2026-07-05"), ["05T08:00/05T08:15", "05T08:30/05T09:00"]);
    let slot = Interval::new(utc("2026-07-05T08:00:00Z"), utc("2026-07-05T09:00:00Z")).unwrap();
    let closed = schedule(rules).check_open(&slot, Brussels).unwrap_err();
    assert_eq!((closed.rule, closed.note.as_deref()), (ClosedBy::Block, Some("Cleaning")));
}

#[test]
fn an_edge_in_a_gap_moves_to_its_end_and_a_folded_hour_is_open_twice() {
    let night = Rules { weekly: vec![rule(ALL_DAYS, "02:30", "04:00")], ..Rules::default() };
    assert_eq!(open(night, "2026-03-29"), ["29T01:00/29T02:00"]);
    let fold = Rules { weekly: vec![rule(ALL_DAYS, "02:00", "02:30")], ..Rules::default() };
    assert_eq!(open(fold, "2026-10-25"), ["25T00:00/25T01:30"]);
}

#[test]
fn a_slot_may_cross_midnight_where_both_days_are_open() {
    let bar = Rules {
        weekly: vec![rule(ALL_DAYS, "18:00", "24:00"), rule(ALL_DAYS, "00:00", "02:00")],
        ..Rules::default()
    };
    let slot = |from: &str, to: &str| Interval::new(utc(from), utc(to)).unwrap();
    let it = schedule(bar);
    assert!(it.check_open(&slot("2026-01-05T22:00:00Z", "2026-01-06T00:30:00Z"), Brussels).is_ok());
    let closed = it.check_open(&slot("2026-01-05T22:00:00Z", "2026-01-06T01:30:00Z"), Brussels).unwrap_err();
    assert_eq!(closed, Closed { rule: ClosedBy::Weekly, date: date("2026-01-06"), note: None });
}

#[test]
fn a_night_is_open_when_its_date_is_and_no_block_touches_it() {
    let rules = Rules {
        seasons: vec![Season {
            name: name("Winter"),
            from: date("2026-11-01"),
            until: date("2027-03-01"),
            weekly: vec![],
        }],
        blocks: vec![Block {
            from: "2026-08-10T12:00:00".parse().unwrap(),
            until: "2026-08-11T12:00:00".parse().unwrap(),
            note: None,
        }],
        ..Rules::default()
    };
    let it = schedule(rules);
    let nights = |from: &str, to: &str| Nights::new(date(from), date(to)).unwrap();
    assert!(it.check_nights(&nights("2026-08-01", "2026-08-10"), Brussels).is_ok());
    assert_eq!(
        it.check_nights(&nights("2026-08-09", "2026-08-11"), Brussels).unwrap_err().rule,
        ClosedBy::Block
    );
    assert_eq!(
        it.check_nights(&nights("2026-10-31", "2026-11-02"), Brussels).unwrap_err().date,
        date("2026-11-01")
    );
}

#[test]
fn a_schedule_is_created_for_resources_that_exist() {
    let create = |resource_ids: Vec<ResourceId>, rules: Rules| ScheduleCommand::Create {
        name: name("Hours"),
        resource_ids,
        rules: Box::new(rules),
    };
    TestFramework::<Schedule>::with(context())
        .given_no_previous_events()
        .when(create(vec![ROOM], office()))
        .then_expect_events(vec![ScheduleEvent::Created {
            schedule_id: ScheduleId::default(),
            name: name("Hours"),
            resource_ids: vec![ROOM],
            rules: Box::new(office()),
        }]);
    let wrong = Rules { weekly: vec![rule(&[], "12:00", "09:00")], ..Rules::default() };
    let error =
        Schedule::default().decide(&create(vec![ResourceId::default()], wrong), &context()).unwrap_err();
    let DomainError::Validation { errors } = error else { panic!("{error}") };
    let codes: Vec<&str> = errors.iter().map(|e| e.code.as_str()).collect();
    assert_eq!(codes, ["unknown_resource", "no_days", "interval_reversed"]);
}

#[test]
fn only_a_live_schedule_claims_its_resources() {
    let mut it = schedule(office());
    assert_eq!(it.unique_keys(), [("schedule_of_resource", ROOM.to_string())]);
    it.apply(&ScheduleEvent::Archived);
    assert!(it.unique_keys().is_empty());
    assert_eq!(it.open_windows(date("2026-01-04"), Brussels).len(), 1);
}

#[test]
fn a_local_time_is_two_digits_each() {
    assert_eq!(time("24:00"), LocalTime::END);
    for wrong in ["24:01", "9:00", "12:60", "-1:00", "12", "12:0x", ""] {
        assert!(LocalTime::parse(wrong).is_none(), "{wrong}");
    }
}

proptest! {
    #[test]
    fn open_windows_are_sorted_apart_and_inside_the_day(
        day in 0u64..4000,
        edges in prop::collection::vec((0u16..1440, 1u16..600), 0..6),
        blocks in prop::collection::vec((0i64..4000 * 24, 1i64..72), 0..4),
        zone in prop::sample::select(vec![Brussels, Tz::America__Sao_Paulo, Tz::Asia__Kathmandu, Tz::Pacific__Apia]),
    ) {
        let epoch = date("2010-01-01");
        let hhmm = |minutes: u16| time(&format!("{:02}:{:02}", minutes / 60, minutes % 60));
        let rules = Rules {
            weekly: edges
                .iter()
                .map(|(from, length)| WeeklyRule {
                    days: ALL_DAYS.to_vec(),
                    opens: hhmm(*from),
                    closes: hhmm((from + length).min(1440)),
                })
                .collect(),
            blocks: blocks
                .iter()
                .map(|(from, hours)| {
                    let from = epoch.and_time(chrono::NaiveTime::MIN) + Duration::hours(*from);
                    Block { from, until: from + Duration::hours(*hours), note: None }
                })
                .collect(),
            ..Rules::default()
        };
        let date = epoch + Days::new(day);
        let it = schedule(rules);
        let windows = it.open_windows(date, zone);
        for pair in windows.windows(2) {
            prop_assert!(pair[0].end() < pair[1].start() || pair[0].end() == pair[1].start());
        }
        for window in &windows {
            prop_assert!(crate::local_time::start_of_day(date, zone) <= window.start());
            prop_assert!(it.check_open(window, zone).is_ok());
        }
    }
}
