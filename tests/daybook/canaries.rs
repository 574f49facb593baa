//! Personal data under canary names, wherever the API takes it, and a walk that looks for it wherever the API answers.

use std::{collections::BTreeSet, time::Duration};

use daybook::config::SettingsPatch;
use daybook_domain::permission::Tier;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    app::{Answer, TestApp, TestTenant, id, read},
    people::{PASSWORD, Person, generous},
    walk::{Canary, Known, walk},
};

/// A tenant whose every personal value is a canary, and what a walk through it has to know.
pub struct World {
    pub app: TestApp,
    pub tenant: TestTenant,
    /// The tenant's owner.
    pub owner: Person,
    /// Of the platform's support, who has asked to look into the tenant.
    pub support: Person,
    pub known: Known,
}

/// Where the owner and visitors call from, and with what.
const IP: &str = "203.0.113.201";
const AGENT: &str = "ZqAgent/1.0 (canary)";

impl World {
    /// A tenant with a past: customers, bookings, accounts, leads, grants, support requests, each with canaries.
    pub async fn open() -> Self {
        let patch = SettingsPatch {
            trusted_proxy_hops: Some(1),
            read_limit_per_minute: Some(0),
            public_availability_limit_per_minute: Some(0),
            ..generous()
        };
        let app = TestApp::start_with(patch).await;
        let tenant = app.business("camp").await;
        let email = "zq.owner.mail@canary.example";
        app.account(Some(&tenant), email, Tier::TenantOwner, None).await;
        let owner = app.sign_in(Some(&tenant), email).await;
        app.account(None, "sue@platform.example", Tier::PlatformSupport, None).await;
        let support = app.sign_in(None, "sue@platform.example").await;
        let mut world = Self {
            known: Known { slug: tenant.slug.clone(), ..Known::default() },
            app,
            tenant,
            owner,
            support,
        };
        for (what, value) in [("owner's e-mail", email), ("address", IP), ("user agent", AGENT)] {
            world.known.canaries.push(Canary { what, value: value.to_owned() });
        }
        world.owner = world.sign_in_from_afar(email).await;
        world.people().await;
        world.bookings().await;
        world.leads().await;
        world.accounts().await;
        world.access().await;
        world.masquerades().await;
        world.things().await;
        // What is asked about the ledger is under a signed checkpoint, which the log of heads names.
        let size = world.app.sign_now(&world.tenant).await.size;
        let last = if size % 256 == 0 { 256 } else { size % 256 };
        let number = (size - 1) / 256;
        let end = if last == 256 { String::new() } else { format!(".p/{last}") };
        let tiles = ["0", "entries"].map(|kind| format!("{kind}/{number:03}{end}"));
        world.known.ids.insert("/api/v1/audit/tile".into(), tiles.into());
        let plain = vec![world.tenant.id.0.to_string()];
        world.known.ids.insert("/api/v1/platform/tenants".into(), plain);
        world
    }

    /// A new canary.
    fn word(&mut self, what: &'static str) -> String {
        let word: String = what.split(' ').map(|word| word[..1].to_uppercase() + &word[1..]).collect();
        self.keep(what, format!("Zq{word} K7 é"))
    }

    fn mail(&mut self, what: &'static str) -> String {
        self.keep(what, format!("zq-{}@canary.example", what.replace(' ', "-")))
    }

    fn phone(&mut self, what: &'static str) -> String {
        let last = self.known.canaries.len();
        self.keep(what, format!("+324709182{last:02}"))
    }

    fn keep(&mut self, what: &'static str, value: String) -> String {
        assert!(self.known.canaries.iter().all(|canary| canary.what != what && canary.value != value));
        self.known.canaries.push(Canary { what, value: value.clone() });
        value
    }

    /// The owner's session with an address and a program of its own.
    async fn sign_in_from_afar(&self, email: &str) -> Person {
        let request = self
            .app
            .client
            .post(self.app.url("/auth/login"))
            .header("X-Tenant-Slug", &self.tenant.slug)
            .header("X-Forwarded-For", IP)
            .header("User-Agent", AGENT);
        let answer = read(request.json(&json!({"email": email, "password": PASSWORD}))).await.expect(200);
        Person { token: answer.text("access_token"), ..self.owner.clone() }
    }

    async fn does(&self, method: Method, path: &str, body: &Value) -> Answer {
        let request = self.app.client.request(method, self.app.url(path)).bearer_auth(&self.owner.token);
        let request =
            request.header("X-Forwarded-For", IP).header("User-Agent", AGENT).header("If-Match", "*");
        let answer = read(request.json(body)).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.body);
        answer
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.does(Method::POST, path, body).await
    }

    /// What a visitor of the house's pages sends.
    async fn visitor(&self, path: &str, body: &Value) -> Answer {
        self.app.anonymous_at(&self.tenant, path, body).await.expect(201)
    }

    async fn people(&mut self) {
        let body = json!({
            "name": self.word("customer first name"), "email": self.mail("customer mail"),
            "phone": self.phone("customer phone"), "reason": self.word("customer reason"),
        });
        let customer = id(&self.post("/customers", &body).await);
        // The former name is told nowhere any more.
        self.known.canaries.retain(|canary| canary.what != "customer first name");
        let change =
            json!({"name": self.word("customer name"), "reason": self.word("customer change reason")});
        self.does(Method::PATCH, &format!("/customers/{customer}"), &change).await;
        let other = json!({"name": self.word("archived customer")});
        let gone = id(&self.post("/customers", &other).await);
        let why = json!({"reason": self.word("archive reason")});
        self.does(Method::DELETE, &format!("/customers/{gone}"), &why).await;
    }

    async fn bookings(&mut self) {
        let pool = self.app.resource(&self.tenant, "Cabins", 9).await;
        let offering = self.app.nights_offering(&self.tenant, &[pool]).await;
        let stay = json!({
            "offering_id": offering, "check_in": "2031-05-10", "check_out": "2031-05-12", "guests": 2,
            "notes": self.word("booking notes"), "reason": self.word("booking reason"),
            "customer": {
                "name": self.word("booker name"), "email": self.mail("booker mail"), "phone": self.phone("booker phone"),
            },
        });
        let booking = id(&self.post("/bookings", &stay).await);
        let path = format!("/bookings/{booking}");
        let moved = json!({
            "check_in": "2031-05-11", "check_out": "2031-05-13", "reason": self.word("reschedule reason"),
        });
        self.post(&format!("{path}/reschedule"), &moved).await;
        let why = json!({"reason": self.word("cancel reason")});
        self.post(&format!("{path}/cancel"), &why).await;

        let settings = json!({"display_name": "House", "reason": self.word("settings reason")});
        self.does(Method::PATCH, "/settings", &settings).await;
        let stay = json!({
            "offering_id": offering, "check_in": "2031-05-10", "check_out": "2031-05-12",
            "notes": self.word("guest notes"),
            "customer": {
                "name": self.word("guest name"), "email": self.mail("guest mail"), "phone": self.phone("guest phone"),
            },
        });
        let made = self.visitor("/public/bookings", &stay).await;
        let link = made.text("guest_token");
        let cancel = self.app.client.post(self.app.url(&format!("/public/bookings/{}/cancel", id(&made))));
        let why = json!({"reason": self.word("guest reason")});
        read(cancel.header("X-Guest-Token", &link).json(&why)).await.expect(200);
        for name in ["token", "X-Guest-Token"] {
            self.known.values.insert(name.to_owned(), vec![link.clone()]);
        }
        self.known.ids.insert("/api/v1/public/bookings".into(), vec![id(&made).to_string()]);
        let positions = (1..=self.app.head(&self.tenant).await).map(|position| position.to_string());
        self.known.values.insert("as_of".into(), positions.collect());
        // The history follows the log.
        let history = format!("{path}/history");
        for _ in 0..200 {
            let page = self.app.get_as(&self.owner.token, &history).await.expect(200);
            if page.body["items"].as_array().unwrap().len() == 3 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("the history does not follow");
    }

    async fn leads(&mut self) {
        let lead = json!({
            "name": self.word("lead name"), "email": self.mail("lead mail"), "phone": self.phone("lead phone"),
            "message": self.word("lead message"),
        });
        let lead = id(&self.visitor("/public/leads", &lead).await);
        let why = json!({"reason": self.word("handle reason")});
        self.post(&format!("/leads/{lead}/handle"), &why).await;
    }

    async fn accounts(&mut self) {
        let invited = json!({
            "email": self.mail("invited mail"), "name": self.word("invited name"), "role": "tenant_staff",
            "reason": self.word("invite reason"),
        });
        self.post("/invitations", &invited).await;
        let user = json!({
            "email": self.mail("user mail"), "name": self.word("user first name"), "role": "tenant_staff",
            "password": PASSWORD, "reason": self.word("user reason"),
        });
        let user = id(&self.post("/users", &user).await);
        self.known.canaries.retain(|canary| canary.what != "user first name");
        let change = json!({"name": self.word("user name"), "reason": self.word("user change reason")});
        self.does(Method::PATCH, &format!("/users/{user}"), &change).await;
        let own = json!({"name": self.word("owner name")});
        self.does(Method::PATCH, "/me", &own).await;
        let role = json!({"name": "Desk", "permissions": ["bookings:read:tenant"], "reason": self.word("role reason")});
        self.post("/roles", &role).await;
        let key = json!({
            "name": "Site", "permissions": ["bookings:read:tenant"], "reason": self.word("key reason"),
        });
        let key = self.post("/api-keys", &key).await.text("key");
        self.app.get_as(&key, "/bookings").await.expect(200);
        let grant = |reason: String| json!({"grantee_id": user, "permission": "bookings:read:tenant", "reason": reason, "minutes": 30});
        let first = grant(self.word("grant reason"));
        let first = id(&self.post("/permission-grants", &first).await);
        let why = json!({"reason": self.word("grant revoke reason")});
        self.post(&format!("/permission-grants/{first}/revoke"), &why).await;
        let second = grant(self.word("live grant reason"));
        self.post("/permission-grants", &second).await;
        let why = json!({"reason": self.word("deactivation reason")});
        self.post(&format!("/users/{user}/deactivate"), &why).await;
    }

    async fn access(&mut self) {
        for (asks, answers, answer) in [
            ("support ask reason", "support deny reason", "deny"),
            ("second support ask reason", "support approve reason", "approve"),
        ] {
            let ask = json!({"tenant": self.tenant.slug, "reason": self.word(asks), "minutes": 30});
            let made = self.app.post_as(&self.support.token, "/support/requests", &ask).await.expect(201);
            let why = json!({"reason": self.word(answers)});
            self.post(&format!("/support/requests/{}/{answer}", id(&made)), &why).await;
        }
    }

    /// The platform's support was in the tenant, and the owner acts as somebody of the staff.
    async fn masquerades(&mut self) {
        let start = json!({
            "tenant": self.tenant.slug, "mode": "redacted", "reason": self.word("session reason"),
        });
        let began = self.app.post_as(&self.support.token, "/support/sessions", &start).await.expect(201);
        let path = format!("/support/sessions/{}", id(&began));
        self.app.with_token(&began.text("access_token"), Method::DELETE, &path, None).await.expect(204);
        let mail = self.mail("staff mail");
        let staff = self.app.account(Some(&self.tenant), &mail, Tier::TenantStaff, None).await;
        let acts = json!({"user_id": staff, "reason": self.word("hijack reason")});
        self.post("/hijack", &acts).await;
    }

    /// What is of no person, so that every list has something in it.
    async fn things(&mut self) {
        let resource = self.app.resource(&self.tenant, "Cabin", 1).await;
        let schedule =
            json!({"name": "Summer", "resource_ids": [resource], "reason": self.word("schedule reason")});
        self.post("/schedules", &schedule).await;
        // Of a hold the reasons are people's words; somebody waits for it.
        let forgotten = json!({"name": self.word("queued customer")});
        let forgotten = id(&self.post("/customers", &forgotten).await);
        let hold = json!({"name": "Case 7", "customer_id": forgotten, "reason": self.word("hold reason")});
        let hold = id(&self.post("/audit/holds", &hold).await);
        let why = json!({"reason": self.word("erasure reason")});
        self.post(&format!("/customers/{forgotten}/erase"), &why).await;
        let second = json!({"name": "Case 8", "customer_id": forgotten, "reason": "a writ"});
        self.post("/audit/holds", &second).await;
        let why = json!({"reason": self.word("hold release reason")});
        self.does(Method::DELETE, &format!("/audit/holds/{hold}"), &why).await;
        let domain = json!({"hostname": "www.camp-canary.example"});
        self.post("/domains", &domain).await;
    }
}

/// The route of tiles, and of the leaves themselves.
const LEAVES: &str = "/api/v1/audit/tile/{path}";

/// The routes that show personal data to those who may read it.
pub const PERSONAL: [&str; 33] = [
    "/api/v1/audit/booking-changes",
    "/api/v1/audit/bundle",
    "/api/v1/audit/events",
    "/api/v1/audit/export",
    "/api/v1/audit/holds",
    "/api/v1/audit/holds/{id}",
    "/api/v1/audit/logins",
    "/api/v1/audit/messages",
    "/api/v1/audit/stream",
    "/api/v1/audit/streams/{type}/{id}",
    "/api/v1/audit/support",
    LEAVES,
    "/api/v1/auth/sessions",
    "/api/v1/bookings",
    "/api/v1/bookings/{id}",
    "/api/v1/bookings/{id}/history",
    "/api/v1/customers",
    "/api/v1/customers/{id}",
    "/api/v1/hijack",
    "/api/v1/hijacks",
    "/api/v1/hijacks/{id}",
    "/api/v1/invitations",
    "/api/v1/leads",
    "/api/v1/leads/{id}",
    "/api/v1/me",
    "/api/v1/permission-grants",
    "/api/v1/permission-grants/{id}",
    "/api/v1/support/requests",
    "/api/v1/support/requests/{id}",
    "/api/v1/support/sessions",
    "/api/v1/support/sessions/{id}",
    "/api/v1/users",
    "/api/v1/users/{id}",
];

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_read_personal_data_finds_it_where_it_belongs_and_nowhere_else() {
    let world = World::open().await;
    let walk = walk(&world.app, &world.owner.token, &world.known).await;
    println!("{} questions on {} routes", walk.answers.len(), walk.routes_walked.len());

    let document = format!("http://{}/api/schema/", world.app.address);
    let document = read(world.app.client.get(document)).await.expect(200).body;
    let paths = document["paths"].as_object().unwrap().iter();
    let all: BTreeSet<String> =
        paths.filter(|(_, methods)| methods.get("get").is_some()).map(|(path, _)| path.clone()).collect();
    assert_eq!(walk.unreached, BTreeSet::new(), "nothing is there to ask these routes about");
    assert_eq!(walk.routes_walked, all);
    // What the owner may ask was answered at least once, and each was also made to refuse.
    for (route, statuses) in &walk.statuses {
        let platforms = route.starts_with("/api/v1/platform/");
        assert_eq!(statuses.contains(&200), !platforms, "{route}: {statuses:?}");
    }

    // Neither a header nor a refusal tells anything, not even to those who may know it, or have just said it.
    let astray: Vec<_> =
        walk.findings.iter().filter(|finding| finding.place != "body" || finding.status != 200).collect();
    assert!(astray.is_empty(), "{:#?}", &astray[..astray.len().min(20)]);
    assert_eq!(walk.telling(), PERSONAL.into());
    // The log holds personal values as commitments, whoever reads it.
    let log = walk.hiding.iter().all(|route| route.starts_with("/api/v1/audit/"));
    assert!(log, "{:?}", walk.hiding);
    let seen: BTreeSet<&str> = walk.findings.iter().map(|finding| finding.what).collect();
    let unseen: Vec<&str> =
        world.known.canaries.iter().map(|canary| canary.what).filter(|what| !seen.contains(what)).collect();
    assert_eq!(unseen, Vec::<&str>::new(), "canaries that no route shows guard nothing");

    world.app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redacted_session_finds_personal_data_nowhere() {
    let world = World::open().await;
    let start = json!({"tenant": world.tenant.slug, "mode": "redacted", "reason": "ticket 7"});
    let began = world.app.post_as(&world.support.token, "/support/sessions", &start).await.expect(201);
    let walk = walk(&world.app, &began.text("access_token"), &world.known).await;
    println!("{} questions on {} routes", walk.answers.len(), walk.routes_walked.len());
    assert_eq!(walk.unreached, BTreeSet::new(), "nothing is there to ask these routes about");
    assert_eq!(walk.findings, []);

    // What takes data out at large is refused as a whole.
    const REFUSED: [&str; 2] = ["/api/v1/audit/bundle", "/api/v1/audit/export"];
    for route in REFUSED {
        assert!(!walk.statuses[route].contains(&200), "{route}: {:?}", walk.statuses[route]);
    }
    // Not because nothing was answered: what an owner finds there stands hidden in its place. One's own account, its
    // sessions and its hijacks are those of nobody.
    let of_an_account = ["/api/v1/auth/sessions", "/api/v1/hijack", "/api/v1/me"];
    let hidden: BTreeSet<&str> = walk.hiding.iter().map(String::as_str).collect();
    // Leaves are bytes: they are not shown at all.
    assert_eq!(walk.statuses[LEAVES], BTreeSet::from([403]));
    let refused = |route: &&str| *route == LEAVES || REFUSED.contains(route);
    for route in PERSONAL.iter().filter(|route| !of_an_account.contains(route) && !refused(route)) {
        assert!(walk.statuses[*route].contains(&200), "{route}: {:?}", walk.statuses[*route]);
        assert!(hidden.contains(route), "{route}");
    }
    // A value cannot be guessed at by searching for it either.
    for route in ["/api/v1/customers", "/api/v1/users"] {
        let searched = walk
            .answers
            .iter()
            .filter(|(of, asked, _)| of == route && asked.to_lowercase().contains(r#"["email","zq"#));
        let statuses: BTreeSet<u16> = searched.map(|(.., status)| *status).collect();
        assert_eq!(statuses, BTreeSet::from([403]), "{route}");
    }
    world.app.shut_down().await;
}
