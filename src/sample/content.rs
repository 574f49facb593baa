//! Who and what there is in the sample tenant. All of it is made up: people are called by trees, their addresses are of
//! `example.org`, their telephone numbers of those that are kept free for films.

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use daybook_domain::{
    Currency, CustomerId, DomainError, GrantId, LeadId, Money, OfferingId, ResourceId, RoleId, ScheduleId,
    SupportRequestId, TenantId, UserId,
    customer::CustomerCommand,
    lead::LeadCommand,
    offering::{
        CancellationPolicy, DEFAULT_HOLD_MINUTES, OfferingCommand, OfferingMode, OfferingTerms, PolicyTier,
        PricePer,
    },
    permission::{Module, Permission, Permissions, Tier},
    permission_grant::PermissionGrantCommand,
    resource::{ResourceCommand, ResourceKind},
    role::RoleCommand,
    schedule::{Block, DatedException, Day, LocalTime, Rules, ScheduleCommand, Season, WeeklyRule, Window},
    settings::SettingsCommand,
    support_request::{SupportActor, SupportRequestCommand},
    text::{Email, Name, Notes, Phone, Reason},
    user::{By, UserCommand, UserRole},
};

use super::{
    bookings,
    script::{Actor, Script, Step},
};
use crate::eventstore::Command;

/// Where it is.
pub const ZONE: chrono_tz::Tz = chrono_tz::Europe::Brussels;
/// Days before today on which the house was set up.
const SET_UP: i64 = -200;
/// Days from today on which the houses with hours are closed, or not as usual.
pub const UNUSUAL: [i64; 4] = [-20, 10, 17, 24];
/// A hold of these lasts for a day, so that there are always some.
const LONG_HOLD: u32 = 1_440;

const TREES: [&str; 20] = [
    "Alder", "Ash", "Aspen", "Beech", "Birch", "Cedar", "Cherry", "Cypress", "Elm", "Hazel", "Holly",
    "Juniper", "Larch", "Linden", "Maple", "Oak", "Poplar", "Rowan", "Spruce", "Willow",
];
const SURNAMES: [&str; 3] = ["Sample", "Example", "Specimen"];

/// What is booked, by whom and for whom.
pub struct House {
    pub reception: Actor,
    pub manager: Actor,
    pub customers: Vec<CustomerId>,
    pub pitch: OfferingId,
    pub pitch_kept: OfferingId,
    pub lodge: OfferingId,
    pub mill: OfferingId,
    pub room: OfferingId,
    pub bike: OfferingId,
    pub walk: OfferingId,
}

/// All that happens, in its order: the same for the same tenant, time and day.
///
/// # Errors
/// When something of it is not what the domain accepts.
pub fn script(tenant: TenantId, now: DateTime<Utc>, day: NaiveDate) -> Result<Vec<Step>, DomainError> {
    let mut script = Script::new(tenant, now, day);
    let house = house(&mut script, tenant)?;
    bookings::script(&mut script, &house)?;
    leads(&mut script, &house)?;
    Ok(script.finish())
}

fn house(script: &mut Script, tenant: TenantId) -> Result<House, DomainError> {
    let set_up = script.at(SET_UP, 0);
    let account = |script: &Script, tier| Actor { id: UserId(script.id(&format!("{tier}"), set_up)), tier };
    let owner = account(script, Tier::TenantOwner);
    let manager = account(script, Tier::TenantManager);
    let reception = account(script, Tier::TenantStaff);
    let clock = |minutes| set_up + TimeDelta::minutes(minutes);

    let role = RoleId(script.id("role", set_up));
    let held = Tier::TenantOwner.permissions();
    let permissions = permissions(&["bookings:read:assigned", "customers:read:tenant"])?;
    let people = [
        (owner.id, "Olive Owner", "owner", Tier::TenantOwner, None, &[][..]),
        (manager.id, "Myrtle Manager", "manager", Tier::TenantManager, None, &[]),
        (reception.id, "Rose Reception", "reception", Tier::TenantStaff, None, &["reception"]),
        (UserId(script.id("pos", set_up)), "Poppy Till", "till", Tier::TenantStaff, None, &["pos"]),
        (
            UserId(script.id("housekeeping", set_up)),
            "Heather Linen",
            "housekeeping",
            Tier::TenantStaff,
            None,
            &["housekeeping"],
        ),
        (UserId(script.id("porter", set_up)), "Basil Porter", "porter", Tier::TenantStaff, Some(role), &[]),
    ];
    for (index, (id, name, local, tier, role_id, modules)) in people.into_iter().enumerate() {
        if index == 1 {
            let create = RoleCommand::Create {
                name: Name::new("Porter", "/name")?,
                permissions: permissions.clone(),
                held: held.clone(),
            };
            script.step(clock(1), owner, Command::to(role, create));
        }
        let register = UserCommand::Register {
            email: Email::new(&format!("{local}@sample.example.org"), "/email")?,
            name: Name::new(name, "/name")?,
            role: UserRole { tier, role_id },
            modules: modules.iter().filter_map(|name| Module::parse(name)).collect::<BTreeSet<_>>(),
            customer_id: None,
            by: By::Operator,
        };
        script.step(clock(if index == 0 { 0 } else { 2 }), owner, Command::to(id, register));
    }
    let settings = SettingsCommand::Change {
        public_bookings: Some(true),
        display_name: Some(Some(Name::new("Sample by the river", "/display_name")?)),
        hijack_without_approval: None,
    };
    script.step(clock(3), owner, Command::to(tenant, settings));

    let mut resource = |name: &str, capacity: Option<u32>| -> Result<ResourceId, DomainError> {
        let id = ResourceId(script.id(name, set_up));
        let kind = if capacity.is_some() { ResourceKind::Pool } else { ResourceKind::Unit };
        let name = Name::new(name, "/name")?;
        let create = ResourceCommand::Create { name, kind, capacity, time_zone: ZONE };
        script.step(clock(4), owner, Command::to(id, create));
        Ok(id)
    };
    let pitches = resource("Pitches by the river", Some(14))?;
    let lodges = resource("Lodges", Some(6))?;
    let mill = resource("The old mill", None)?;
    let room = resource("Meeting room", None)?;
    let bikes = resource("Bicycles", Some(8))?;
    let guide = resource("Guide", None)?;
    schedules(script, owner, clock(5), &[room, guide], lodges)?;

    let steps = |tiers: &[(u32, u8)]| CancellationPolicy {
        tiers: tiers
            .iter()
            .map(|(hours_before, fee_percent)| PolicyTier {
                hours_before: *hours_before,
                fee_percent: *fee_percent,
            })
            .collect(),
    };
    let usual = steps(&[(168, 30), (48, 100)]);
    let nights = |resource, amount| OfferingTerms {
        mode: OfferingMode::Nights,
        resource_ids: vec![resource],
        price: Money { amount, currency: Currency::EUR },
        price_per: PricePer::Night,
        cancellation_policy: usual.clone(),
        hold_minutes: DEFAULT_HOLD_MINUTES,
        ..OfferingTerms::default()
    };
    let slot = |resource, amount, minutes| OfferingTerms {
        mode: OfferingMode::Slot,
        duration_minutes: Some(minutes),
        price_per: PricePer::Booking,
        cancellation_policy: steps(&[(24, 50)]),
        ..nights(resource, amount)
    };
    let mut offering = |name: &str, terms: OfferingTerms| -> Result<OfferingId, DomainError> {
        let id = OfferingId(script.id(&format!("offering {name}"), set_up));
        let terms = Box::new(OfferingTerms { name: Name::new(name, "/name")?, ..terms });
        script.step(clock(6), owner, Command::to(id, OfferingCommand::Create { terms }));
        Ok(id)
    };
    let pitch = offering(
        "Pitch, per night",
        OfferingTerms { max_advance_days: Some(400), ..nights(pitches, 2_800) },
    )?;
    let kept = OfferingTerms { cancellation_policy: steps(&[(87_600, 100)]), ..nights(pitches, 2_300) };
    let pitch_kept = offering("Pitch, per night, not refundable", kept)?;
    let lodge =
        offering("Lodge, per night", OfferingTerms { hold_minutes: LONG_HOLD, ..nights(lodges, 11_500) })?;
    let mill = offering(
        "The old mill, per night",
        OfferingTerms { requires_approval: true, ..nights(mill, 19_000) },
    )?;
    let hour = OfferingTerms { buffer_after_minutes: 15, min_notice_minutes: 60, ..slot(room, 4_000, 60) };
    let room = offering("Meeting room, an hour", hour)?;
    let bike = offering(
        "Bicycle, half a day",
        OfferingTerms { buffer_after_minutes: 30, ..slot(bikes, 1_800, 240) },
    )?;
    let walk =
        OfferingTerms { requires_approval: true, buffer_before_minutes: 15, ..slot(guide, 7_500, 120) };
    let walk = offering("Guided walk", walk)?;

    let customers = customers(script, reception)?;
    access(script, owner, manager, reception)?;
    Ok(House { reception, manager, customers, pitch, pitch_kept, lodge, mill, room, bike, walk })
}

fn permissions(texts: &[&str]) -> Result<Permissions, DomainError> {
    texts.iter().map(|text| permission(text)).collect()
}

fn permission(text: &str) -> Result<Permission, DomainError> {
    text.parse().map_err(|_| DomainError::field("/permission", "invalid_value", "no such permission"))
}

fn local(text: &str) -> Result<LocalTime, DomainError> {
    LocalTime::parse(text).ok_or_else(|| DomainError::field("/opens", "invalid_value", "no time of the day"))
}

fn schedules(
    script: &mut Script,
    owner: Actor,
    at: DateTime<Utc>,
    with_hours: &[ResourceId],
    lodges: ResourceId,
) -> Result<(), DomainError> {
    let rule = |days: &[Day], opens, closes| -> Result<WeeklyRule, DomainError> {
        Ok(WeeklyRule { days: days.to_vec(), opens: local(opens)?, closes: local(closes)? })
    };
    let working = [Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri];
    let [before, closed, short, blocked] = UNUSUAL.map(|offset| script.date(offset));
    let closed_on = |date| DatedException { date, windows: Vec::new() };
    let short = DatedException {
        date: short,
        windows: vec![Window { opens: local("10:00")?, closes: local("14:00")? }],
    };
    let block = |from, until, note: &str| -> Result<Block, DomainError> {
        Ok(Block { from, until, note: Some(Name::new(note, "/note")?) })
    };
    let hours = Rules {
        weekly: vec![rule(&working, "08:00", "20:00")?, rule(&[Day::Sat], "09:00", "17:00")?],
        seasons: vec![Season {
            name: Name::new("Long evenings", "/name")?,
            from: script.date(100),
            until: script.date(160),
            weekly: vec![rule(&working, "08:00", "22:00")?],
        }],
        exceptions: vec![closed_on(before), closed_on(closed), short],
        blocks: vec![block(
            blocked.and_time(local_noon()),
            blocked.and_time(local_noon()) + TimeDelta::hours(2),
            "Fire drill",
        )?],
    };
    let (from, until) = (script.date(120).and_time(local_noon()), script.date(127).and_time(local_noon()));
    let repairs = Rules { blocks: vec![block(from, until, "New roofs")?], ..Rules::default() };
    for (name, resources, rules) in
        [("Opening hours", with_hours.to_vec(), hours), ("Repairs", vec![lodges], repairs)]
    {
        let id = ScheduleId(script.id(name, at));
        let create = ScheduleCommand::Create {
            name: Name::new(name, "/name")?,
            resource_ids: resources,
            rules: Box::new(rules),
        };
        script.step(at, owner, Command::to(id, create));
    }
    Ok(())
}

fn local_noon() -> chrono::NaiveTime {
    chrono::NaiveTime::MIN + TimeDelta::hours(12)
}

fn customers(script: &mut Script, by: Actor) -> Result<Vec<CustomerId>, DomainError> {
    let mut all = Vec::new();
    for (number, (surname, tree)) in
        SURNAMES.iter().flat_map(|surname| TREES.iter().map(move |tree| (surname, tree))).enumerate()
    {
        let at = script.at(SET_UP + 2, i64::try_from(number).unwrap_or(0));
        let id = CustomerId(script.id(&format!("{tree} {surname}"), at));
        let address = format!("{}.{}@example.org", tree.to_lowercase(), surname.to_lowercase());
        // A few have no telephone.
        let phone = (number % 7 != 3).then(|| Phone::new(&phone(number), "/phone")).transpose()?;
        let register = CustomerCommand::Register {
            name: Name::new(&format!("{tree} {surname}"), "/name")?,
            email: Some(Email::new(&address, "/email")?),
            phone,
        };
        script.step(at, by, Command::to(id, register));
        all.push(id);
    }
    let at = script.at(SET_UP + 3, 0);
    let gone = CustomerId(script.id("archived", at));
    let name = Name::new("Fern Formerly", "/name")?;
    script.step(at, by, Command::to(gone, CustomerCommand::Register { name, email: None, phone: None }));
    script.step(script.at(-90, 600), by, Command::to(gone, CustomerCommand::Archive));
    Ok(all)
}

/// 555-0100 to 555-0199 belong to nobody.
fn phone(number: usize) -> String {
    format!("+1 202 555 01{:02}", number % 100)
}

/// What was granted and asked, by whom. These go by the clock of the log, so all of it happens now.
fn access(script: &mut Script, owner: Actor, manager: Actor, reception: Actor) -> Result<(), DomainError> {
    let now = script.now;
    let mut grant = |name: &str, text: &str| -> Result<GrantId, DomainError> {
        let id = GrantId(script.id(name, now));
        let grant = PermissionGrantCommand::Grant {
            grantee: reception.id,
            permission: permission(text)?,
            minutes: 1_440,
            by: By::User(manager.id),
        };
        script.step_because(now, manager, Command::to(id, grant), "the office is empty today");
        Ok(id)
    };
    grant("grant", "reports:read:tenant")?;
    let over = grant("grant that is over", "leads:update:tenant")?;
    let revoke = PermissionGrantCommand::Revoke { by: By::User(manager.id), if_active: false };
    script.step_because(now, manager, Command::to(over, revoke), "the leads have been answered");

    let support = Actor { id: UserId(script.id("support", now)), tier: Tier::PlatformSupport };
    let request = |script: &mut Script, name: &str, why: &str| -> Result<SupportRequestId, DomainError> {
        let id = SupportRequestId(script.id(name, now));
        let reason = Reason::new(why, "/reason")?;
        let ask = SupportRequestCommand::Request { requested_by: support.id, reason, minutes: 30 };
        script.step(now, support, Command::to(id, ask));
        Ok(id)
    };
    let denied = request(script, "denied request", "the calendar shows a booking twice")?;
    let revoked = request(script, "revoked request", "an arrival is missing from the calendar")?;
    let by = SupportActor::Account(owner.id);
    let reason = |text| Reason::new(text, "/reason").map(Some);
    let deny = SupportRequestCommand::Deny { by, reason: reason("it was a mistake of ours")? };
    script.step(now, owner, Command::to(denied, deny));
    let requester = Some(Email::new("support@sample.example.org", "/email")?);
    script.step(now, owner, Command::to(revoked, SupportRequestCommand::Approve { by, requester }));
    let revoke = SupportRequestCommand::Revoke { by, reason: reason("it has been found")? };
    script.step(now, owner, Command::to(revoked, revoke));
    Ok(())
}

fn leads(script: &mut Script, house: &House) -> Result<(), DomainError> {
    const ASKED: [&str; 4] = [
        "Is there room for a group of twenty in spring?",
        "May we bring a dog?",
        "Please call me about the old mill.",
        "Do the lodges have a kitchen?",
    ];
    for number in 0_usize..14 {
        let at = script.at(-2 * i64::try_from(number).unwrap_or(0), 9 * 60);
        let id = LeadId(script.id(&format!("lead {number}"), at));
        let tree = TREES[(number * 3) % TREES.len()];
        let submit = LeadCommand::Submit {
            name: Name::new(&format!("{tree} Asker"), "/name")?,
            email: Some(Email::new(&format!("{}.asker@example.org", tree.to_lowercase()), "/email")?),
            phone: (number.is_multiple_of(2))
                .then(|| Phone::new(&phone(80 + number), "/phone"))
                .transpose()?,
            message: Some(Notes::new(ASKED[number % ASKED.len()], "/message")?),
            offering_id: (number.is_multiple_of(3)).then_some(house.mill),
        };
        script.step(at, house.reception, Command::to(id, submit));
        if number >= 6 {
            let at = at + TimeDelta::hours(5);
            script.step(at, house.reception, Command::to(id, LeadCommand::Handle));
        }
    }
    Ok(())
}
