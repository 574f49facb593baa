//! Permission grants: what they allow, for how long, and what they cannot be used for.

use std::{fs, time::Duration};

use daybook::workers::projector;
use daybook_domain::permission::Tier;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    app::{Answer, TestApp, TestTenant, id, read},
    people::{Person, generous},
};

pub const UPDATE: &str = "bookings:update:tenant";
const WHY: &str = "the desk is ill today";

/// A house with an owner, a manager and one of the housekeeping, who has no resources assigned.
pub struct House {
    pub app: TestApp,
    pub tenant: TestTenant,
    pub owner: Person,
    pub manager: Person,
    pub staff: Person,
    bookings: Vec<Uuid>,
}

/// As long as any node believes what it has looked up.
pub async fn a_second() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

impl House {
    pub async fn open() -> Self {
        let app = TestApp::start_with(generous()).await;
        let tenant = app.business("camp").await;
        let owner = app.person(&tenant, "owner@example.org", Tier::TenantOwner).await;
        let manager = app.person(&tenant, "manager@example.org", Tier::TenantManager).await;
        let staff = app.account(Some(&tenant), "staff@example.org", Tier::TenantStaff, None).await;
        let modules = json!({"modules": ["housekeeping"]});
        app.post(&tenant, &format!("/users/{staff}/modules"), &modules).await.expect(200);
        let staff = app.sign_in(Some(&tenant), "staff@example.org").await;
        let pool = app.resource(&tenant, "Cabins", 9).await;
        let offering = app.nights_offering(&tenant, &[pool]).await;
        let customer = app.customer(&tenant, "Grace").await;
        let mut bookings = Vec::new();
        for day in 10..16 {
            let stay = TestApp::stay(offering, customer, &format!("2031-05-{day}"), "2031-05-20");
            bookings.push(id(&app.post(&tenant, "/bookings", &stay).await.expect(201)));
        }
        Self { app, tenant, owner, manager, staff, bookings }
    }

    pub async fn ask(&self, by: &Person, whom: Uuid, permission: &str) -> Answer {
        let body = json!({"grantee_id": whom, "permission": permission, "reason": WHY, "minutes": 1});
        self.app.post_as(&by.token, "/permission-grants", &body).await
    }

    /// Grants the staff something, and waits until it counts.
    pub async fn grant(&self, by: &Person, permission: &str) -> Answer {
        let granted = self.ask(by, self.staff.id, permission).await.expect(201);
        a_second().await;
        granted
    }

    pub async fn revoke(&self, by: &Person, grant: Uuid) -> Answer {
        let path = format!("/permission-grants/{grant}/revoke");
        self.app.post_as(&by.token, &path, &json!({"reason": "the desk is back"})).await
    }

    /// Whether the staff may change bookings, asked of a node: in a way that changes none.
    pub async fn may_update(&self, node: &TestApp) -> bool {
        let path = format!("/bookings/{}/reassign", self.bookings[0]);
        let status = node.post_as(&self.staff.token, &path, &json!({"unit": 10_000})).await.status;
        assert!([403, 409, 422].contains(&status.as_u16()), "{status}");
        status != 403
    }

    pub async fn state_of(&self, grant: Uuid) -> String {
        let path = format!("/permission-grants/{grant}");
        self.app.get_as(&self.owner.token, &path).await.expect(200).text("state")
    }

    /// Grants of the list as somebody sees it.
    pub async fn listed(&self, by: &Person, query: &str) -> Vec<Uuid> {
        let page = self.app.get_as(&by.token, &format!("/permission-grants{query}")).await.expect(200);
        let items = page.body["items"].as_array().unwrap();
        items.iter().map(|item| item["id"].as_str().unwrap().parse().unwrap()).collect()
    }

    pub async fn owner_does(&self, path: &str, body: &Value) -> Answer {
        self.app.post_as(&self.owner.token, path, body).await.expect(200)
    }

    /// Every read model is what a replay of the log gives.
    pub async fn close(self) {
        let report = projector::verify(&self.app.store, &self.tenant.schema(), |_, _| {}).await.unwrap();
        assert!(report.is_equal(), "{report:#?}");
        assert!(report.tables.iter().any(|table| table.table == "permission_grants"));
        self.app.shut_down().await;
    }
}

#[tokio::test]
async fn a_grant_allows_exactly_what_it_says_in_its_tenant_alone() {
    let house = House::open().await;
    let (app, staff) = (&house.app, house.staff.token.as_str());
    let cancel = |booking: Uuid| format!("/bookings/{booking}/cancel");
    app.post_as(staff, &cancel(house.bookings[0]), &json!({})).await.expect_problem(403, "forbidden");
    let granted = house.grant(&house.manager, UPDATE).await;
    assert_eq!(granted.header("etag"), Some("\"1\""));
    assert_eq!(granted.header("location"), Some(&*format!("/api/v1/permission-grants/{}", id(&granted))));
    let times = ["granted_at", "expires_at"].map(|name| granted.text(name));
    let [from, until] = times.map(|time| time.parse::<chrono::DateTime<chrono::Utc>>().unwrap());
    assert_eq!(until - from, chrono::Duration::minutes(1));
    assert_eq!(
        (&granted.body["state"], &granted.body["grantor_id"], &granted.body["grantee_id"]),
        (&json!("active"), &json!(house.manager.id), &json!(house.staff.id))
    );

    // What one has for a while is shown as such.
    let me = app.get_as(staff, "/me").await.expect(200);
    assert!(me.body["permissions"].as_array().unwrap().contains(&json!(UPDATE)));
    let shown =
        json!([{"grant_id": id(&granted), "permission": UPDATE, "expires_at": granted.body["expires_at"]}]);
    assert_eq!(me.body["granted"], shown);
    assert_eq!(app.get_as(&house.manager.token, "/me").await.body["granted"], json!([]));

    app.post_as(staff, &cancel(house.bookings[0]), &json!({})).await.expect(200);
    let moved = json!({"check_in": "2031-06-01", "check_out": "2031-06-03"});
    app.post_as(staff, &format!("/bookings/{}/reschedule", house.bookings[1]), &moved).await.expect(200);
    // Reading is as narrow as before, and every neighbour is as closed.
    app.get_as(staff, &format!("/bookings/{}", house.bookings[1])).await.expect_problem(404, "not_found");
    assert_eq!(app.get_as(staff, "/bookings").await.expect(200).body["items"], json!([]));
    for (method, path) in [
        (Method::POST, "/bookings"),
        (Method::GET, "/customers"),
        (Method::POST, "/customers"),
        (Method::POST, "/resources"),
        (Method::GET, "/schedules"),
        (Method::GET, "/leads"),
        (Method::GET, "/users"),
        (Method::GET, "/audit/events"),
        (Method::POST, "/permission-grants"),
        (Method::POST, "/permission-grants/revoke"),
    ] {
        app.with_token(staff, method.clone(), path, Some(&json!({}))).await.expect_problem(403, "forbidden");
    }
    // In another tenant the same person is another account, and this one is unknown there.
    let hotel = app.business("hotel").await;
    let twin = app.person(&hotel, "staff@example.org", Tier::TenantStaff).await;
    app.post_as(&twin.token, &cancel(house.bookings[2]), &json!({})).await.expect_problem(403, "forbidden");
    let owner = app.person(&hotel, "owner@example.org", Tier::TenantOwner).await;
    house.ask(&owner, house.staff.id, UPDATE).await.expect_problem(422, "validation_failed");
    app.get_as(&owner.token, &format!("/permission-grants/{}", id(&granted)))
        .await
        .expect_problem(404, "not_found");

    // The log says who gave whom what and why, and what was done by it.
    let path = format!("/audit/events?aggregate=permission_grant:{}", id(&granted));
    let events = app.get_as(&house.owner.token, &path).await.expect(200);
    let event = &events.body["items"][0];
    assert_eq!((&event["type"], &event["reason"]), (&json!("permission.granted"), &json!(WHY)));
    assert_eq!(event["actor"], json!(format!("user:{}", house.manager.id)));
    let payload = &event["payload"];
    for (name, value) in [
        ("grantor", json!(house.manager.id)),
        ("grantee", json!(house.staff.id)),
        ("permission", json!(UPDATE)),
        ("reason", json!(WHY)),
    ] {
        assert_eq!(payload[name], value, "{name}");
    }
    let path = format!("/audit/events?aggregate=booking:{}", house.bookings[0]);
    let done = app.get_as(&house.owner.token, &path).await.expect(200);
    let causes = done.body["items"].as_array().unwrap().iter().map(|event| event["causation_id"].clone());
    let by_grant = json!(format!("permission_grant:{}", id(&granted)));
    assert_eq!(causes.collect::<Vec<_>>(), [Value::Null, by_grant]);
    house.close().await;
}

#[tokio::test]
async fn a_grant_for_what_is_assigned_reaches_what_is_assigned() {
    let house = House::open().await;
    let other = house.app.resource(&house.tenant, "Attic", 1).await;
    let offering = house.app.nights_offering(&house.tenant, &[other]).await;
    let customer = house.app.customer(&house.tenant, "Linus").await;
    let stay = TestApp::stay(offering, customer, "2031-05-01", "2031-05-03");
    let mine = id(&house.app.post(&house.tenant, "/bookings", &stay).await.expect(201));
    let assign = json!({"modules": ["housekeeping"], "resource_ids": [other]});
    house.owner_does(&format!("/users/{}/modules", house.staff.id), &assign).await;
    house.grant(&house.manager, "bookings:update:assigned").await;
    let cancel = async |booking: Uuid| {
        house.app.post_as(&house.staff.token, &format!("/bookings/{booking}/cancel"), &json!({})).await
    };
    cancel(house.bookings[0]).await.expect_problem(404, "not_found");
    cancel(mine).await.expect(200);
    house.close().await;
}

#[tokio::test]
async fn nobody_grants_what_they_lack_or_to_whom_they_may_not() {
    let house = House::open().await;
    let (owner, manager, staff) = (&house.owner, &house.manager, &house.staff);
    let customer = house.app.customer(&house.tenant, "Grace").await;
    let guest = house
        .app
        .account(Some(&house.tenant), "guest@example.org", Tier::Customer, Some(customer.into()))
        .await
        .0;
    let deactivated =
        house.app.account(Some(&house.tenant), "gone@example.org", Tier::TenantStaff, None).await.0;
    house.owner_does(&format!("/users/{deactivated}/deactivate"), &json!({})).await;
    for (by, whom, permission, status, code) in [
        (manager, staff.id, "settings:update:tenant", 422, "validation_failed"),
        (manager, owner.id, UPDATE, 403, "forbidden"),
        (manager, manager.id, UPDATE, 403, "forbidden"),
        (manager, guest, UPDATE, 403, "forbidden"),
        (owner, guest, UPDATE, 403, "forbidden"),
        (owner, owner.id, UPDATE, 403, "forbidden"),
        (owner, staff.id, "settings:update:tenant", 422, "validation_failed"),
        (owner, staff.id, "users:create:tenant", 422, "validation_failed"),
        (owner, staff.id, "bookings:update:platform", 422, "validation_failed"),
        (owner, staff.id, "bookings:update:own", 422, "validation_failed"),
        (owner, staff.id, "bookings:update", 422, "validation_failed"),
        (owner, staff.id, "tenants:read:tenant", 422, "validation_failed"),
        (owner, deactivated, UPDATE, 422, "validation_failed"),
        (owner, Uuid::now_v7(), UPDATE, 422, "validation_failed"),
        (staff, staff.id, UPDATE, 403, "forbidden"),
    ] {
        house.ask(by, whom, permission).await.expect_problem(status, code);
    }
    // An owner of two gives nothing to the other; a manager lacks what is an owner's, for whomever.
    let second = house.app.person(&house.tenant, "second@example.org", Tier::TenantOwner).await;
    let colleague = house.app.person(&house.tenant, "colleague@example.org", Tier::TenantManager).await;
    house.ask(owner, second.id, UPDATE).await.expect_problem(403, "forbidden");
    house.ask(manager, colleague.id, "settings:update:tenant").await.expect_problem(403, "forbidden");
    house.ask(owner, colleague.id, "settings:update:tenant").await.expect(201);

    for (member, value) in [("reason", json!("  ")), ("minutes", json!(0)), ("minutes", json!(1_441))] {
        let mut body = json!({"grantee_id": staff.id, "permission": UPDATE, "reason": WHY});
        body[member] = value;
        let refused = house.app.post_as(&owner.token, "/permission-grants", &body).await;
        let refused = refused.expect_problem(422, "validation_failed");
        assert_eq!(refused.body["errors"][0]["pointer"], json!(format!("/{member}")));
    }
    // A key may do all that an owner may, but grants are given by people.
    let body = json!({"grantee_id": staff.id, "permission": UPDATE, "reason": WHY});
    house.app.post(&house.tenant, "/permission-grants", &body).await.expect_problem(403, "forbidden");
    assert_eq!(house.listed(owner, "").await.len(), 1);

    house.app.state.security_log().flush().await;
    let log = fs::read_to_string(house.app.data_dir().join("logs/security.log")).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| lines.iter().filter(|line| line["event"] == kind).collect::<Vec<_>>();
    assert_eq!(of("permission_granted").len(), 1);
    let refused = of("permission_grant_refused");
    assert!(refused.iter().any(|line| line["actor"] == json!(format!("user:{}", manager.id))
        && line["detail"].as_str().unwrap().contains("settings:update:tenant")));
    assert!(!log.contains(WHY));
    house.close().await;
}

#[tokio::test]
async fn what_was_granted_is_not_given_on() {
    let house = House::open().await;
    let owner = &house.owner;
    let granted = async |permission: &str| {
        house.ask(owner, house.manager.id, permission).await.expect(201);
    };
    granted("settings:update:tenant").await;
    granted("api_keys:create:tenant").await;
    a_second().await;
    let token = house.manager.token.as_str();
    let change = json!({"public_bookings": false});
    let request = house.app.client.patch(house.app.url("/settings")).bearer_auth(token).json(&change);
    read(request.header("If-Match", "\"0\"")).await.expect(200);
    // Keys can be made now, for what is the manager's own.
    let key = async |permission: &str| {
        let body = json!({"name": "Site", "permissions": [permission]});
        house.app.post_as(token, "/api-keys", &body).await
    };
    for held_for_a_while in ["settings:update:tenant", "api_keys:create:tenant"] {
        key(held_for_a_while).await.expect_problem(422, "validation_failed");
    }
    key("bookings:read:tenant").await.expect(201);
    house
        .ask(&house.manager, house.staff.id, "settings:update:tenant")
        .await
        .expect_problem(422, "validation_failed");

    let role = json!({"name": "Office", "permissions": ["settings:update:tenant"]});
    house.app.post_as(token, "/roles", &role).await.expect_problem(422, "validation_failed");
    // Nor does what staff were granted let them make any.
    house.grant(owner, UPDATE).await;
    assert!(house.may_update(&house.app).await);
    let wider = json!({"name": "Mine", "permissions": [UPDATE]});
    for path in ["/roles", "/api-keys"] {
        house.app.post_as(&house.staff.token, path, &wider).await.expect_problem(403, "forbidden");
    }
    house.close().await;
}

#[tokio::test]
async fn a_revoked_grant_is_over_within_a_second_on_every_node() {
    let house = House::open().await;
    let node = house.app.second_node().await;
    let grant = id(&house.grant(&house.manager, UPDATE).await);
    assert!(house.may_update(&house.app).await && house.may_update(&node).await);
    house.revoke(&house.staff, grant).await.expect_problem(403, "forbidden");
    let path = format!("/permission-grants/{grant}/revoke");
    let body = json!({"reason": "the desk is back"});
    let request = node.client.post(node.url(&path)).bearer_auth(&house.owner.token).json(&body);
    read(request.try_clone().unwrap().header("If-Match", "\"7\""))
        .await
        .expect_problem(412, "version_conflict");
    let request = request.header("If-Match", "\"1\"").header("Idempotency-Key", "once");
    let revoked = read(request.try_clone().unwrap()).await.expect(200);
    assert_eq!((&revoked.body["state"], &revoked.body["version"]), (&json!("revoked"), &json!(2)));
    assert_eq!(revoked.body["revoked_by"], json!(house.owner.id));
    a_second().await;
    assert!(!house.may_update(&house.app).await && !house.may_update(&node).await);
    let again = read(request).await.expect(200);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    house.revoke(&house.manager, grant).await.expect_problem(409, "wrong_state");
    house.revoke(&house.manager, Uuid::now_v7()).await.expect_problem(404, "not_found");

    // Of two who revoke at once one did.
    for _ in 0..5 {
        let grant = id(&house.ask(&house.manager, house.staff.id, UPDATE).await.expect(201));
        let path = format!("/permission-grants/{grant}/revoke");
        let answers = join_all([
            house.app.post_as(&house.manager.token, &path, &body),
            node.post_as(&house.owner.token, &path, &body),
        ])
        .await;
        let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status.as_u16()).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409]);
    }
    node.shut_down().await;
    house.close().await;
}

#[tokio::test]
async fn several_grants_are_revoked_together_or_not_at_all() {
    let house = House::open().await;
    let mut grants = Vec::new();
    for permission in [UPDATE, "leads:read:tenant", "customers:read:tenant", "reports:read:tenant"] {
        grants.push(id(&house.ask(&house.manager, house.staff.id, permission).await.expect(201)));
    }
    let other = id(&house.ask(&house.owner, house.manager.id, "settings:update:tenant").await.expect(201));
    let many = async |by: &Person, body: Value, key: &str| {
        let request =
            house.app.client.post(house.app.url("/permission-grants/revoke")).bearer_auth(&by.token);
        read(request.header("Idempotency-Key", key).json(&body)).await
    };
    let (why, head) = ("closing time", house.app.head(&house.tenant).await);
    for (body, status, code) in [
        (json!({"reason": why}), 422, "validation_failed"),
        (json!({"reason": why, "ids": []}), 422, "validation_failed"),
        (json!({"reason": why, "ids": vec![grants[0]; 201]}), 422, "validation_failed"),
        (json!({"reason": why, "ids": [grants[0]], "grantee_id": house.staff.id}), 422, "validation_failed"),
        (json!({"reason": " ", "ids": [grants[0]]}), 422, "validation_failed"),
        (json!({"reason": why, "ids": [grants[0], Uuid::now_v7()]}), 404, "not_found"),
        // A manager does not end what another manager was granted by the owner.
        (json!({"reason": why, "ids": [grants[0], other]}), 403, "forbidden"),
    ] {
        many(&house.manager, body, &Uuid::now_v7().to_string()).await.expect_problem(status, code);
    }
    assert_eq!(house.app.head(&house.tenant).await, head, "nothing happened");
    let two = json!({"reason": why, "ids": [grants[0], grants[1], grants[0]]});
    let answer = many(&house.manager, two.clone(), "two").await.expect(200);
    assert_eq!(answer.body, json!({"revoked": 2}));
    assert_eq!(answer.header("x-log-position"), Some(&*house.app.head(&house.tenant).await.to_string()));
    let again = many(&house.manager, two.clone(), "two").await.expect(200);
    assert_eq!((&again.body, again.header("idempotent-replayed")), (&answer.body, Some("true")));
    many(&house.manager, two, "twice").await.expect_problem(409, "wrong_state");
    let mixed = json!({"reason": why, "ids": [grants[1], grants[2]]});
    many(&house.manager, mixed, "mixed").await.expect_problem(409, "wrong_state");
    assert_eq!(house.state_of(grants[2]).await, "active");
    // All of somebody's: what is over already is no obstacle, and neither is there being none.
    for (key, revoked) in [("all", 2), ("none", 0)] {
        let all = json!({"reason": why, "grantee_id": house.staff.id});
        let answer = many(&house.manager, all.clone(), key).await.expect(200);
        assert_eq!(answer.body, json!({"revoked": revoked}));
        let again = many(&house.manager, all, key).await.expect(200);
        assert_eq!(again.body, json!({"revoked": revoked}), "repeated");
    }
    assert_eq!(house.listed(&house.owner, "?state=active").await, [other]);
    assert_eq!(house.listed(&house.owner, "?state=revoked").await, grants);
    house.close().await;
}

#[tokio::test]
async fn staff_see_what_they_were_given_and_managers_see_all() {
    let house = House::open().await;
    let colleague = house.app.person(&house.tenant, "colleague@example.org", Tier::TenantStaff).await;
    let mine = id(&house.ask(&house.manager, house.staff.id, UPDATE).await.expect(201));
    let theirs = id(&house.ask(&house.owner, colleague.id, UPDATE).await.expect(201));
    let see = async |by: &Person, query: String| house.listed(by, &query).await;
    let (staff, owner) = (&house.staff, &house.owner);
    assert_eq!(see(staff, String::new()).await, [mine]);
    assert_eq!(see(staff, format!("?grantee={}", colleague.id)).await, [] as [Uuid; 0]);
    assert_eq!(see(&house.manager, String::new()).await, [mine, theirs]);
    assert_eq!(see(owner, format!("?grantee={}", colleague.id)).await, [theirs]);
    assert_eq!(see(owner, format!("?grantor={}", house.manager.id)).await, [mine]);
    assert_eq!(see(owner, "?state=expired".into()).await, [] as [Uuid; 0]);
    house.app.get_as(&staff.token, &format!("/permission-grants/{mine}")).await.expect(200);
    house
        .app
        .get_as(&staff.token, &format!("/permission-grants/{theirs}"))
        .await
        .expect_problem(404, "not_found");
    house
        .app
        .get_as(&owner.token, "/permission-grants?state=over")
        .await
        .expect_problem(422, "validation_failed");
    // Page by page, as every list.
    let page = house.app.get_as(&owner.token, "/permission-grants?limit=1").await.expect(200);
    let next = format!("?limit=1&cursor={}", page.text("next_cursor"));
    assert_eq!(see(owner, next).await, [theirs]);
    // A key that may see its own has none.
    let key = json!({"name": "Site", "permissions": ["permission_grants:read:own"]});
    let key = house.app.post_as(&owner.token, "/api-keys", &key).await.expect(201).text("key");
    let found = house.app.get_as(&key, "/permission-grants").await.expect(200);
    assert_eq!(found.body["items"], json!([]));
    house.close().await;
}
