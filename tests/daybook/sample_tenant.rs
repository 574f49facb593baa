//! The sample tenant: enough in it for every screen, made once whoever asks, and another one every night.

use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, Instant},
};

use daybook::{sample, tenancy::Schema};
use daybook_domain::{TenantId, permission::Tier};
use futures_util::future::join_all;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use tokio::time::sleep;

use crate::support::{
    app::{TestApp, TestTenant},
    people::generous,
    site::by,
};

/// The tenant as its operator sees it.
async fn opened(app: &TestApp, id: TenantId) -> TestTenant {
    let issued = app.admin.issue_key(id, "test", &by("test")).await.unwrap();
    let slug = app.directory.by_id(id).await.unwrap().unwrap().slug;
    TestTenant { id, slug, token: issued.key.expose_secret().to_owned(), token_id: issued.id }
}

async fn all(app: &TestApp, tenant: &TestTenant, path: &str) -> Vec<Value> {
    let mut items = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("{path}{}limit=200{cursor}", if path.contains('?') { '&' } else { '?' });
        let mut page = app.get(tenant, &path).await.expect(200);
        items.append(page.body["items"].as_array_mut().unwrap());
        match page.body["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return items,
        }
    }
}

fn count<'a>(items: &'a [Value], member: &str) -> BTreeMap<&'a str, usize> {
    let mut counts = BTreeMap::new();
    for item in items {
        *counts.entry(item[member].as_str().unwrap()).or_default() += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn every_screen_has_something_on_it_and_nobody_in_it_is_real() {
    let app = TestApp::start_with(generous()).await;
    assert_eq!(sample::current(app.store.database()).await.unwrap(), None);
    let begin = Instant::now();
    let id = sample::ensure(&app.store, &app.directory).await.unwrap();
    println!("made in {:?}", begin.elapsed());
    assert_eq!(sample::current(app.store.database()).await.unwrap(), Some(id));
    assert_eq!(sample::ensure(&app.store, &app.directory).await.unwrap(), id, "it is made once");
    let tenant = opened(&app, id).await;
    assert_eq!(tenant.slug, "sample");
    app.assert_gap_free(&tenant).await;

    let bookings = all(&app, &tenant, "/bookings").await;
    assert!(bookings.len() >= 250, "{}", bookings.len());
    let statuses = count(&bookings, "status");
    for status in [
        "held",
        "pending",
        "confirmed",
        "checked_in",
        "completed",
        "cancelled",
        "rejected",
        "expired",
        "no_show",
    ] {
        assert!(statuses.get(status).is_some_and(|count| *count >= 2), "{status}: {statuses:?}");
    }
    assert!(bookings.iter().any(|booking| booking["fee"]["amount"].as_i64().unwrap_or(0) > 0), "a fee");
    assert!(bookings.iter().filter(|booking| booking["notes"].is_string()).count() >= 20, "notes");
    let customers = all(&app, &tenant, "/customers?archived=false").await;
    assert_eq!(customers.len(), 60);
    for customer in &customers {
        assert!(customer["email"].as_str().unwrap().ends_with("@example.org"), "{customer}");
        let phone = customer["phone"].as_str();
        assert!(phone.is_none_or(|phone| phone.replace(' ', "").starts_with("+120255501")), "{customer}");
    }
    let leads = all(&app, &tenant, "/leads").await;
    assert_eq!(count(&leads, "status").keys().copied().collect::<Vec<_>>(), ["handled", "new"]);
    let roles =
        count(&all(&app, &tenant, "/users").await, "role").into_keys().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(roles, ["tenant_manager", "tenant_owner", "tenant_staff"]);
    for (list, least) in [
        ("/resources", 6),
        ("/offerings", 7),
        ("/schedules", 2),
        ("/roles", 1),
        ("/permission-grants", 2),
        ("/support/requests", 2),
    ] {
        let found = all(&app, &tenant, list).await.len();
        assert!(found >= least, "{list}: {found}");
    }
    let types: HashSet<String> = all(&app, &tenant, "/audit/events")
        .await
        .iter()
        .map(|event| event["type"].as_str().unwrap().to_owned())
        .collect();
    for kind in ["booking.rescheduled", "permission.grant_revoked", "customer.archived"] {
        assert!(types.contains(kind), "{kind}: {types:?}");
    }
    // Nobody signs in there: no account has a password.
    let login = app.login(Some(&tenant), "owner@sample.example.org", crate::support::people::PASSWORD).await;
    login.expect_problem(401, "unauthenticated");
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_need_it_at_once_one_makes_it() {
    let app = TestApp::start().await;
    let node = app.second_node().await;
    let made = join_all((0..8).map(|turn| {
        let on = if turn % 2 == 0 { &app } else { &node };
        async { sample::ensure(&on.store, &on.directory).await.unwrap() }
    }))
    .await;
    assert!(made.iter().all(|id| *id == made[0]), "{made:?}");
    let tenants = app.directory.list().await.unwrap();
    assert_eq!(tenants.iter().map(|tenant| tenant.slug.as_str()).collect::<Vec<_>>(), ["sample"]);
    node.shut_down().await;
    app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_night_it_is_another_one_and_the_one_before_is_nobodys() {
    let app = TestApp::start_with(generous()).await;
    let node = app.second_node().await;
    let midnight = Duration::ZERO;
    // Where nobody needed one there is none to make anew.
    assert_eq!(sample::reset_if_due(&app.store, &app.directory, midnight).await.unwrap(), None);
    let first = sample::ensure(&app.store, &app.directory).await.unwrap();
    assert_eq!(
        sample::reset_if_due(&app.store, &app.directory, midnight).await.unwrap(),
        None,
        "not twice a day"
    );
    let tenant = opened(&app, first).await;
    let person = app.person(&tenant, "eve@example.org", Tier::TenantOwner).await;
    node.get_as(&person.token, "/bookings").await.expect(200);
    let platform = Schema::platform();
    app.sql(&platform, "UPDATE {s}.sample_tenant SET made_at = made_at - interval '1 day'").await;
    let reset = join_all(
        [&app, &node, &app, &node]
            .map(|on| async { sample::reset_if_due(&on.store, &on.directory, midnight).await.unwrap() }),
    )
    .await;
    let second: Vec<TenantId> = reset.into_iter().flatten().collect();
    assert_eq!(second.len(), 1, "one of them made it: {second:?}");
    assert_eq!(sample::current(app.store.database()).await.unwrap(), Some(second[0]));
    assert_ne!(second[0], first);
    sleep(Duration::from_secs(1)).await;
    for token in [&tenant.token, &person.token] {
        node.get_as(token, "/bookings").await.expect_problem(401, "unauthenticated");
    }
    let tenants = app.directory.list().await.unwrap();
    let active: Vec<_> = tenants.iter().filter(|tenant| tenant.active).map(|tenant| tenant.id).collect();
    assert_eq!((tenants.len(), active), (2, second.clone()));
    assert!(tenants[1].slug.starts_with("sample-20"), "{}", tenants[1].slug);
    // The two hold the same.
    let (one, other) = (first, opened(&app, second[0]).await);
    let bookings = all(&app, &other, "/bookings").await.len();
    let before: i64 = sqlx::query_scalar(&Schema::tenant(one).sql("SELECT count(*) FROM {s}.bookings"))
        .fetch_one(app.store.database().owner())
        .await
        .unwrap();
    assert_eq!(i64::try_from(bookings).unwrap(), before);

    // Who makes one and does not come to its end keeps nobody from it for ever, and leaves nothing that works.
    app.sql(&platform, "UPDATE {s}.sample_tenant SET making = gen_random_uuid(), making_until = now() - interval '1 s', made_at = made_at - interval '1 day'").await;
    let third = sample::reset_if_due(&app.store, &app.directory, midnight).await.unwrap();
    assert!(third.is_some() && third != Some(second[0]));
    node.shut_down().await;
    app.shut_down().await;
}
