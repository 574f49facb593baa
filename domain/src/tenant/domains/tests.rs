use chrono_tz::Tz;
use cqrs_es::test::TestFramework;
use uuid::Uuid;

use super::*;
use crate::{
    Currency, Decider as _, Slug, TenantId,
    tenant::{TenantCommand, TenantContext},
};

const NOW: DateTime<Utc> = DateTime::UNIX_EPOCH;

fn context() -> TenantContext {
    TenantContext { now: NOW, id: TenantId::default(), known_plans: vec!["free".into()] }
}

fn created() -> TenantEvent {
    TenantEvent::Created {
        tenant_id: TenantId::default(),
        slug: Slug::new("camp", "/slug").unwrap(),
        name: "Camping".into(),
        plan: "free".into(),
        temporary: false,
        time_zone: Tz::Europe__Brussels,
        currency: Currency::EUR,
        region: "eu".into(),
    }
}

fn id(n: u128) -> DomainId {
    DomainId(Uuid::from_u128(n))
}

fn host(name: &str) -> Hostname {
    Hostname::new(name, "/hostname").unwrap()
}

fn claim(n: u128, name: &str) -> TenantCommand {
    TenantCommand::ClaimDomain { domain_id: id(n), hostname: host(name), token: format!("token-{n}") }
}

fn claimed(n: u128, name: &str) -> TenantEvent {
    TenantEvent::DomainClaimed {
        domain_id: id(n),
        hostname: host(name),
        token: format!("token-{n}"),
        claimed_at: NOW,
    }
}

fn verified(n: u128) -> TenantEvent {
    TenantEvent::DomainVerified { domain_id: id(n), verified_at: NOW }
}

fn given(mut events: Vec<TenantEvent>) -> cqrs_es::test::AggregateTestExecutor<Tenant> {
    events.insert(0, created());
    TestFramework::<Tenant>::with(context()).given(events)
}

fn folded(events: &[TenantEvent]) -> Tenant {
    let mut tenant = Tenant::default();
    tenant.apply(&created());
    events.iter().for_each(|event| tenant.apply(event));
    tenant
}

#[test]
fn a_host_is_claimed_once() {
    given(vec![]).when(claim(1, "a.example")).then_expect_events(vec![claimed(1, "a.example")]);
    let taken = DomainError::AlreadyExists { what: "hostname".into() };
    given(vec![claimed(1, "a.example")]).when(claim(2, "A.example")).then_expect_error(taken);
    let released = TenantEvent::DomainReleased { domain_id: id(1) };
    given(vec![claimed(1, "a.example"), released])
        .when(claim(2, "a.example"))
        .then_expect_events(vec![claimed(2, "a.example")]);
}

#[test]
fn domains_are_counted() {
    let most = |count: usize| (0..count).map(|n| claimed(n as u128, &format!("h{n}.example"))).collect();
    given(most(MAX_DOMAINS - 1))
        .when(claim(99, "a.example"))
        .then_expect_events(vec![claimed(99, "a.example")]);
    given(most(MAX_DOMAINS))
        .when(claim(99, "a.example"))
        .then_expect_error(DomainError::wrong_state("full", "a tenant has at most 50 domains"));
}

#[test]
fn a_host_is_unique_while_it_is_proved() {
    let slug = ("tenant_slug", "camp".to_owned());
    let hostname = ("hostname", "a.example".to_owned());
    assert_eq!(folded(&[claimed(1, "a.example")]).unique_keys(), vec![slug.clone()]);
    let proved = [claimed(1, "a.example"), verified(1)];
    assert_eq!(folded(&proved).unique_keys(), vec![slug.clone(), hostname]);
    for end in
        [TenantEvent::DomainLapsed { domain_id: id(1) }, TenantEvent::DomainReleased { domain_id: id(1) }]
    {
        let [first, second] = proved.clone();
        assert_eq!(folded(&[first, second, end]).unique_keys(), vec![slug.clone()]);
    }
}

#[test]
fn proving_and_lapsing_twice_is_one_event() {
    let verify = || TenantCommand::VerifyDomain { domain_id: id(1) };
    let lapse = || TenantCommand::LapseDomain { domain_id: id(1) };
    given(vec![claimed(1, "a.example")]).when(verify()).then_expect_events(vec![verified(1)]);
    given(vec![claimed(1, "a.example"), verified(1)]).when(verify()).then_expect_events(vec![]);
    let lapsed = TenantEvent::DomainLapsed { domain_id: id(1) };
    given(vec![claimed(1, "a.example"), verified(1)]).when(lapse()).then_expect_events(vec![lapsed.clone()]);
    given(vec![claimed(1, "a.example")]).when(lapse()).then_expect_events(vec![]);
    given(vec![claimed(1, "a.example"), verified(1), lapsed])
        .when(verify())
        .then_expect_events(vec![verified(1)]);
}

#[test]
fn one_proved_domain_is_the_primary_one() {
    let primary = |n| TenantCommand::MakePrimaryDomain { domain_id: id(n) };
    let made = |n| TenantEvent::DomainMadePrimary { domain_id: id(n) };
    let unverified =
        DomainError::wrong_state("unverified", "a domain becomes the primary one once it is verified");
    given(vec![claimed(1, "a.example")]).when(primary(1)).then_expect_error(unverified);
    given(vec![claimed(1, "a.example"), verified(1)]).when(primary(1)).then_expect_events(vec![made(1)]);
    let two = || vec![claimed(1, "a.example"), verified(1), claimed(2, "b.example"), verified(2), made(1)];
    given(two()).when(primary(1)).then_expect_events(vec![]);
    given(two()).when(primary(2)).then_expect_events(vec![made(2)]);
    let mut events = two();
    events.push(made(2));
    let tenant = folded(&events);
    assert!(!tenant.domains[&id(1)].primary && tenant.domains[&id(2)].primary);
    events.push(TenantEvent::DomainLapsed { domain_id: id(2) });
    assert!(folded(&events).domains.values().all(|domain| !domain.primary));
}

#[test]
fn what_is_not_claimed_is_not_found() {
    let not_found = || DomainError::not_found("domain");
    for command in [
        TenantCommand::VerifyDomain { domain_id: id(1) },
        TenantCommand::LapseDomain { domain_id: id(1) },
        TenantCommand::ReleaseDomain { domain_id: id(1) },
        TenantCommand::MakePrimaryDomain { domain_id: id(1) },
    ] {
        given(vec![claimed(2, "a.example")]).when(command).then_expect_error(not_found());
    }
    given(vec![claimed(1, "a.example")])
        .when(TenantCommand::ReleaseDomain { domain_id: id(1) })
        .then_expect_events(vec![TenantEvent::DomainReleased { domain_id: id(1) }]);
}

#[test]
fn a_state_from_before_there_were_domains_is_read() {
    let mut json = serde_json::to_value(folded(&[])).unwrap();
    json.as_object_mut().unwrap().remove("domains").unwrap();
    assert_eq!(serde_json::from_value::<Tenant>(json).unwrap(), folded(&[]));
    let tenant = folded(&[claimed(1, "a.example"), verified(1)]);
    let json = serde_json::to_value(&tenant).unwrap();
    assert_eq!(serde_json::from_value::<Tenant>(json).unwrap(), tenant);
}
