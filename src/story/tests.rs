use chrono::TimeDelta;
use daybook_domain::{
    CustomerId, HijackId, Name, Personal, SessionId, SupportSessionId, UserId,
    customer::CustomerEvent,
    envelope::Metadata,
    hijack::{HijackRefusal, Via},
    masquerade::EndCause,
    support_request::Ending,
    support_session::{SessionRefusal, SupportMode},
    text::Reason,
};

use super::*;

const REQUEST: u128 = 1;
const SUE: u128 = 0xA;
const OWNER: u128 = 0xB;
const STAFF: u128 = 0xC;
const SESSION: u128 = 0x51;
const HIJACK: u128 = 0x61;
const ADA: u128 = 0xAD;

fn at(seconds: i64) -> DateTime<Utc> {
    "2026-11-21T12:00:00.123999Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::seconds(seconds)
}

fn user(id: u128) -> UserId {
    UserId(Uuid::from_u128(id))
}

fn actor(id: u128) -> String {
    format!("user:{}", user(id))
}

fn why(text: &str) -> Reason {
    Reason::new(text, "").unwrap()
}

fn tenant(id: u128) -> Party {
    Party::Tenant { user_id: user(id) }
}

fn platform(id: u128) -> Party {
    Party::Platform { user_id: user(id) }
}

/// A log: positions count up, and each event is recorded at the second that is given.
#[derive(Default)]
struct Log(Vec<RecordedEvent>);

impl Log {
    fn write(&mut self, seconds: i64, id: u128, metadata: Metadata, event: impl Into<AnyEvent>) {
        let (event, id) = (event.into(), Uuid::from_u128(id));
        let before = self.0.iter().filter(|it| it.aggregate_id == id).count();
        self.0.push(RecordedEvent {
            position: self.0.len() as i64 + 1,
            event_id: Uuid::nil(),
            aggregate_type: event.aggregate_type(),
            aggregate_id: id,
            sequence: before as i64 + 1,
            recorded_at: at(seconds),
            occurred_at: at(seconds),
            metadata,
            event,
        });
    }

    fn by(&mut self, seconds: i64, who: u128, id: u128, event: impl Into<AnyEvent>) {
        self.write(seconds, id, Metadata { actor: actor(who), ..Metadata::default() }, event);
    }

    fn asked(mut self) -> Self {
        let requested = SupportRequestEvent::Requested {
            support_request_id: SupportRequestId(Uuid::from_u128(REQUEST)),
            requested_by: user(SUE),
            reason: why("ticket 7"),
            minutes: 30,
            at: at(0),
            lapses_at: at(86_400),
        };
        self.by(0, SUE, REQUEST, requested);
        self
    }

    /// Open from 60 s on, for half an hour.
    fn approved(mut self) -> Self {
        let approved = SupportRequestEvent::Approved { by: user(OWNER), from: at(60), until: at(1_860) };
        self.by(60, OWNER, REQUEST, approved);
        self
    }

    fn session(mut self, seconds: i64, id: u128) -> Self {
        self.by(seconds, SUE, id, started(id, REQUEST));
        self
    }

    fn ended(mut self, seconds: i64, id: u128, cause: EndCause, since: i64) -> Self {
        let ended = SupportSessionEvent::Ended(Ended { cause, at: at(since) });
        self.by(seconds, OWNER, id, ended);
        self
    }

    fn told(&self, now: i64) -> Vec<Entry> {
        self.story(now).0
    }

    fn story(&self, now: i64) -> (Vec<Entry>, Story) {
        let mut story = Story::of(SupportRequestId(Uuid::from_u128(REQUEST)));
        let mut told: Vec<Entry> = self.0.iter().flat_map(|event| story.tell(event)).collect();
        told.extend(story.finish(at(now)));
        (told, story)
    }
}

fn started(id: u128, request: u128) -> SupportSessionEvent {
    SupportSessionEvent::Started {
        support_session_id: SupportSessionId(Uuid::from_u128(id)),
        user_id: user(SUE),
        signed_in: SessionId::default(),
        mode: SupportMode::Real,
        support_request_id: Some(SupportRequestId(Uuid::from_u128(request))),
        reason: why("look at\nthe bill"),
        at: at(0),
        until: at(1_860),
    }
}

fn refused_session(request: Option<u128>, why_not: SessionRefusal) -> SupportSessionEvent {
    SupportSessionEvent::Refused {
        support_session_id: SupportSessionId::default(),
        user_id: user(SUE),
        mode: SupportMode::Real,
        support_request_id: request.map(|id| SupportRequestId(Uuid::from_u128(id))),
        reason: why("ticket 7"),
        why: why_not,
        at: at(0),
    }
}

fn refused_hijack(by: Party) -> HijackEvent {
    HijackEvent::Refused {
        hijack_id: HijackId::default(),
        by,
        target: user(STAFF),
        reason: why("ticket 7"),
        why: HijackRefusal::WindowRequired,
        at: at(0),
    }
}

fn hijack(via: Via) -> HijackEvent {
    HijackEvent::Started {
        hijack_id: HijackId(Uuid::from_u128(HIJACK)),
        by: platform(SUE),
        signed_in: SessionId::default(),
        target: user(STAFF),
        via,
        reason: why("ticket 7"),
        at: at(0),
        until: at(1_860),
    }
}

fn viewed(ids: &[u128], more: bool, status: u16) -> Viewed {
    let resource_ids = ids.iter().map(|id| Uuid::from_u128(*id)).collect();
    Viewed { route: "/api/v1/customers".into(), status, resource_ids, more }
}

fn archived() -> AnyEvent {
    CustomerEvent::Archived { customer_id: CustomerId(Uuid::from_u128(ADA)) }.into()
}

fn within(seconds: i64, who: u128, cause: String) -> (i64, Metadata) {
    (seconds, Metadata { actor: actor(who), causation_id: Some(cause), ..Metadata::default() })
}

fn texts(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.text.as_str()).collect()
}

fn kinds(entries: &[Entry]) -> Vec<Kind> {
    entries.iter().map(|entry| entry.kind).collect()
}

#[test]
fn a_case_is_told_line_by_line_and_nothing_else_is() {
    let mut log = Log::default().asked();
    log.by(10, OWNER, ADA, archived());
    log.by(20, SUE, 0x99, refused_hijack(platform(SUE)));
    log.by(30, 0xD, 0x98, refused_hijack(platform(0xD)));
    let mut log = log.approved().session(70, SESSION);
    log.by(75, SUE, 0x52, started(0x52, 2));
    log.by(76, SUE, 0x52, SupportSessionEvent::Viewed(viewed(&[ADA], false, 200)));
    log.by(80, SUE, SESSION, SupportSessionEvent::Viewed(viewed(&[ADA, 0xB0B], false, 200)));
    let denied = Denied {
        method: "POST".into(),
        route: "/api/v1/api-keys".into(),
        status: 403,
        code: "forbidden".into(),
        resource_ids: Vec::new(),
    };
    log.by(81, SUE, SESSION, SupportSessionEvent::Denied(denied));
    let (seconds, mut caused) = within(90, SUE, format!("support_session:{}", Uuid::from_u128(SESSION)));
    caused.reason = Some("as \u{202e}agreed".into());
    log.write(seconds, ADA, caused, archived());
    let (seconds, elsewhere) = within(91, SUE, format!("support_session:{}", Uuid::from_u128(0x52)));
    log.write(seconds, ADA, elsewhere, archived());
    let window = Via::Window { support_request_id: SupportRequestId(Uuid::from_u128(REQUEST)) };
    log.by(100, SUE, HIJACK, hijack(window));
    let as_staff = || Metadata { actor: actor(SUE), on_behalf_of: Some(actor(STAFF)), ..Metadata::default() };
    log.write(101, HIJACK, as_staff(), HijackEvent::Viewed(viewed(&[], false, 404)));
    let caused = Metadata { causation_id: Some(format!("hijack:{}", Uuid::from_u128(HIJACK))), ..as_staff() };
    log.write(102, ADA, caused, archived());
    let stopped = EndCause::Stopped { by: tenant(OWNER) };
    log.by(110, OWNER, HIJACK, HijackEvent::Ended(Ended { cause: stopped, at: at(110) }));
    let log = log.ended(120, SESSION, EndCause::Stopped { by: platform(SUE) }, 120);
    let (told, story) = log.story(200);

    let id = |n: u128| Uuid::from_u128(n);
    let line = |time: &str, position: u32, label: &str, who: u128, text: String| {
        format!("2026-11-21T12:{time}.123Z  {position:>8}  {label:<4}{:<42} {text}", actor(who))
    };
    let expected = [
        line("00:00", 1, "", SUE, "asked for 30 minutes: \"ticket 7\"".into()),
        line(
            "00:20",
            3,
            "",
            SUE,
            format!("was refused to act as {} (window_required): \"ticket 7\"", actor(STAFF)),
        ),
        line("01:00", 5, "", OWNER, "approved: open until 12:31:00.123".into()),
        line(
            "01:10",
            6,
            "S1",
            SUE,
            "began a real session, until 12:31:00.123: \"look at\\nthe bill\"".into(),
        ),
        line("01:20", 9, "S1", SUE, format!("viewed GET /api/v1/customers: {}, {}", id(ADA), id(0xB0B))),
        line("01:21", 10, "S1", SUE, "was refused POST /api/v1/api-keys (forbidden)".into()),
        line(
            "01:30",
            11,
            "S1",
            SUE,
            format!("changed customer.archived customer:{}: \"as \\u{{202e}}agreed\"", id(ADA)),
        ),
        line(
            "01:40",
            13,
            "H1",
            SUE,
            format!("began to act as {}, until 12:31:00.123: \"ticket 7\"", actor(STAFF)),
        ),
        line("01:41", 14, "H1", SUE, format!("as {}: viewed GET /api/v1/customers (404)", actor(STAFF))),
        line(
            "01:42",
            15,
            "H1",
            SUE,
            format!("as {}: changed customer.archived customer:{}", actor(STAFF), id(ADA)),
        ),
        line("01:50", 16, "H1", OWNER, format!("ended: stopped by {} of the tenant", actor(OWNER))),
        line("02:00", 17, "S1", OWNER, format!("ended: stopped by {} of the platform", actor(SUE))),
    ];
    let lines: Vec<String> = told.iter().map(ToString::to_string).collect();
    assert_eq!(lines, expected);
    assert_eq!(
        story.counts().sentence(),
        "viewed 2 things in 2 reads, changed 2, refused 2",
        "{:?}",
        story.counts()
    );
    let json = serde_json::to_value(&told[9]).unwrap();
    assert_eq!((&json["kind"], &json["ids"]), (&"changed".into(), &serde_json::json!([id(ADA)])));
    assert_eq!(json["within"], format!("hijack:{}", id(HIJACK)));
    assert_eq!((&json["at"], &json["position"]), (&"2026-11-21T12:01:42.123999Z".into(), &15.into()));
}

#[test]
fn each_end_is_told_by_its_cause() {
    for (cause, expected) in [
        (
            EndCause::Stopped { by: tenant(OWNER) },
            format!("ended: stopped by {} of the tenant", actor(OWNER)),
        ),
        (
            EndCause::Stopped { by: platform(SUE) },
            format!("ended: stopped by {} of the platform", actor(SUE)),
        ),
        (EndCause::Stopped { by: Party::Operator }, "ended: stopped by the operator".into()),
        (EndCause::Expired, "ended: its time was over at 12:01:30.123".into()),
        (EndCause::WindowClosed, "ended: the window was closed".into()),
        (EndCause::NoLongerAllowed, "ended: it was not allowed any more".into()),
    ] {
        let told =
            Log::default().asked().approved().session(70, SESSION).ended(100, SESSION, cause, 90).told(110);
        assert_eq!(told.last().unwrap().text, expected);
    }
}

#[test]
fn a_refused_start_belongs_when_it_names_the_request_whenever_it_is() {
    let mut log = Log::default().asked();
    let refusals = [
        SessionRefusal::NotAllowed,
        SessionRefusal::NotTheSampleTenant,
        SessionRefusal::WindowRequired,
        SessionRefusal::WindowUnknown,
        SessionRefusal::WindowOfAnother,
        SessionRefusal::WindowNotOpen,
    ];
    for (n, refusal) in refusals.into_iter().enumerate() {
        log.by(n as i64, 0xD, 0x70 + n as u128, refused_session(Some(REQUEST), refusal));
        log.by(n as i64, SUE, 0x80 + n as u128, refused_session(Some(2), refusal));
        log.by(n as i64, SUE, 0x90 + n as u128, refused_session(None, refusal));
    }
    log.by(200_000, SUE, 0x7F, refused_session(Some(REQUEST), SessionRefusal::WindowNotOpen));
    // A hijack does not name the request it is refused for.
    log.by(200_001, SUE, 0x99, refused_hijack(platform(SUE)));
    let (told, story) = log.story(300_000);
    let mut expected: Vec<String> = vec!["asked for 30 minutes: \"ticket 7\"".into()];
    expected.extend(
        refusals.map(|refusal| format!("was refused a real session ({}): \"ticket 7\"", refusal.as_str())),
    );
    expected.push("the request lapsed: nobody answered".into());
    expected.push("was refused a real session (window_not_open): \"ticket 7\"".into());
    assert_eq!(texts(&told), expected);
    assert_eq!((told[7].at, told[7].position, &told[7].actor), (at(86_400), None, &None));
    assert_eq!(story.counts().refused, 7);
}

#[test]
fn a_hijack_belongs_by_its_window_only() {
    for via in [
        Via::Tier,
        Via::TemporaryTenant,
        Via::Waiver,
        Via::Window { support_request_id: SupportRequestId(Uuid::from_u128(2)) },
    ] {
        let mut log = Log::default().asked().approved();
        log.by(70, SUE, HIJACK, hijack(via));
        log.by(71, SUE, HIJACK, HijackEvent::Viewed(viewed(&[ADA], false, 200)));
        assert_eq!(kinds(&log.told(80)), [Kind::Requested, Kind::Approved], "{via:?}");
    }
}

#[test]
fn going_on_to_another_account_is_a_refusal_and_no_change() {
    let mut log = Log::default().asked().approved().session(70, SESSION);
    let (seconds, metadata) = within(80, SUE, format!("support_session:{}", Uuid::from_u128(SESSION)));
    log.write(seconds, 0x99, metadata, refused_hijack(platform(SUE)));
    let (told, story) = log.story(90);
    assert_eq!((told[3].kind, told[3].label.as_str()), (Kind::HijackRefused, "S1"));
    assert_eq!(story.counts().sentence(), "viewed 0 things in 0 reads, changed 0, refused 1");
}

#[test]
fn a_window_that_is_closed_does_not_close_by_itself_as_well() {
    let ending = |by| SupportRequestEvent::Revoked(Ending { by, reason: why("enough") });
    let mut log = Log::default().asked().approved().session(70, SESSION);
    log.by(80, OWNER, REQUEST, ending(tenant(OWNER)));
    let mut log = log.ended(80, SESSION, EndCause::WindowClosed, 80);
    log.by(90, SUE, 0x99, refused_hijack(platform(SUE)));
    let (told, story) = log.story(10_000);
    assert_eq!(texts(&told[3..]), ["closed the window: \"enough\"", "ended: the window was closed"]);
    assert!(story.is_over(at(80)));
    assert!(state(&story.request, at(90)).ends_with(" of the tenant: \"enough\""));

    let mut log = Log::default().asked();
    log.by(80, SUE, REQUEST, ending(platform(SUE)));
    assert_eq!(texts(&log.told(1_000_000)[1..]), ["took the request back: \"enough\""]);
    let mut log = Log::default().asked();
    log.by(80, OWNER, REQUEST, SupportRequestEvent::Denied(Ending { by: tenant(OWNER), reason: why("no") }));
    let (told, story) = log.story(1_000_000);
    assert_eq!(texts(&told[1..]), ["denied: \"no\""]);
    assert_eq!(state(&story.request, at(90)), format!("denied by {} of the tenant: \"no\"", actor(OWNER)));
}

#[test]
fn a_window_closes_by_itself_when_the_log_or_the_clock_is_past_it() {
    let log = || Log::default().asked().approved().session(70, SESSION);
    let begun = [Kind::Requested, Kind::Approved, Kind::SessionStarted];
    // Neither is.
    let (told, story) = log().story(1_859);
    assert_eq!(kinds(&told), begun);
    assert!(!story.is_over(at(1_859)) && story.is_over(at(1_860)));
    assert_eq!(
        state(&story.request, at(1_859)),
        format!("approved by {}, open until 2026-11-21T12:31:00.123Z", actor(OWNER))
    );
    // The clock is, and the session's end is still to be written.
    let (told, story) = log().story(1_860);
    assert_eq!(kinds(&told[3..]), [Kind::WindowClosed, Kind::Overdue]);
    let closed = told[3].to_string();
    assert!(closed.starts_with("2026-11-21T12:31:00.123Z         -  "), "{closed}");
    assert!(closed.ends_with(" the window closed by itself"), "{closed}");
    assert_eq!(told[4].text, "its time was over; the log does not say so yet");
    assert_eq!(story.unended(), [(AggregateType::SupportSession, Uuid::from_u128(SESSION))]);
    assert_eq!(
        state(&story.request, at(1_860)),
        format!("approved by {}, closed by itself at 2026-11-21T12:31:00.123Z", actor(OWNER))
    );
    // The log is: also where the event that shows it does not belong.
    let mut past = log();
    past.by(1_861, OWNER, ADA, archived());
    let past = past.ended(1_870, SESSION, EndCause::Expired, 1_860);
    let (told, story) = past.story(1_880);
    assert_eq!(kinds(&told[3..]), [Kind::WindowClosed, Kind::Ended]);
    assert_eq!(told[4].text, "ended: its time was over at 12:31:00.123");
    assert_eq!(story.unended(), []);
}

#[test]
fn a_line_names_a_few_things_and_its_entry_all() {
    let told = |count: u128, more| {
        let mut log = Log::default().asked().approved().session(70, SESSION);
        let ids: Vec<u128> = (1..=count).collect();
        log.by(80, SUE, SESSION, SupportSessionEvent::Viewed(viewed(&ids, more, 200)));
        let (told, story) = log.story(81);
        let entry = told.last().unwrap().clone();
        assert_eq!(entry.ids.len(), ids.len());
        (entry.text, story.counts().sentence())
    };
    assert!(told(5, false).0.ends_with(&Uuid::from_u128(5).to_string()));
    assert!(told(7, false).0.ends_with(&format!("{} and 2 others", Uuid::from_u128(5))));
    let (text, sentence) = told(200, true);
    assert!(text.ends_with(" and more than 195 others"), "{text}");
    assert_eq!(sentence, "viewed 200 things and more in 1 read, changed 0, refused 0");
    assert_eq!(told(0, false).0, "viewed GET /api/v1/customers");
}

#[test]
fn nothing_of_a_payload_is_told() {
    let mut log = Log::default().asked().approved().session(70, SESSION);
    let (seconds, metadata) = within(80, SUE, format!("support_session:{}", Uuid::from_u128(SESSION)));
    let registered = CustomerEvent::Registered {
        customer_id: CustomerId(Uuid::from_u128(ADA)),
        name: Personal::new(Name::new("Ada Lovelace", "").unwrap()),
        email: None,
        phone: None,
    };
    log.write(seconds, ADA, metadata, registered);
    let told = daybook_domain::personal::revealing(|| serde_json::to_string(&log.told(81)).unwrap());
    assert!(told.contains("customer.registered") && !told.contains("Lovelace"), "{told}");
}
