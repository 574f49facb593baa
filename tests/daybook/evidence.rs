//! One log through all that may befall it, in any order: what was signed of it stays true, it verifies, and nobody else's
//! is touched.

use std::collections::BTreeMap;

use daybook::ledger::{
    Checkpoint,
    tree::{self, Hash},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    audit_bundle::{in_folder, independent, take, verify},
    erasure::erase,
    legal_holds::{place, release},
    pruning::{assert_replays, caught_up, fingerprint, first_position, prune_at, recorded_at},
    support::{
        app::{TestApp, TestTenant, id},
        people::generous,
        process::Host,
        site::Dice,
    },
};

/// How many things befall a log.
const STEPS: usize = 16;

/// A log, and what its users wrote down of it on the way.
struct Kept<'a> {
    app: &'a TestApp,
    tenant: &'a TestTenant,
    offering: Uuid,
    /// Who was not erased, nor is to be.
    customers: Vec<Uuid>,
    holds: Vec<Uuid>,
    checkpoints: Vec<Checkpoint>,
    receipts: BTreeMap<u64, Hash>,
}

impl Kept<'_> {
    /// One more of whatever may befall it; answers with what that was.
    async fn goes_on(&mut self, dice: &mut Dice) -> String {
        match dice.below(8) {
            0..=2 => self.append(dice).await,
            3 => self.erase(dice).await,
            4 => {
                let whom = self.customers.get(dice.below(6) as usize).copied();
                self.holds.push(place(self.app, self.tenant, whom).await);
                format!("a hold on {whom:?}")
            }
            5 => self.release(dice).await,
            6 => self.rotate(),
            _ => self.prune(dice).await,
        }
    }

    async fn append(&mut self, dice: &mut Dice) -> String {
        let many = 1 + dice.below(5);
        for n in 0..many {
            let customer = self
                .app
                .post(self.tenant, "/customers", &json!({"name": format!("Guest {n}")}))
                .await
                .expect(201);
            self.customers.push(id(&customer));
            let stay = TestApp::stay(self.offering, id(&customer), "2031-05-01", "2031-05-03");
            let booked = self.app.post(self.tenant, "/bookings", &stay).await.expect(201);
            let cancel = format!("/bookings/{}/cancel", id(&booked));
            let cancelled = self.app.post(self.tenant, &cancel, &json!({"reason": "rain"})).await.expect(200);
            for answer in [customer, booked, cancelled] {
                let (position, hash) = answer.header("x-log-receipt").unwrap().split_once(':').unwrap();
                let hash = hex::decode(hash).unwrap().try_into().unwrap();
                self.receipts.insert(position.parse().unwrap(), hash);
            }
        }
        format!("{many} bookings")
    }

    async fn erase(&mut self, dice: &mut Dice) -> String {
        if self.customers.is_empty() {
            return "nobody left to be erased".to_owned();
        }
        let whom = self.customers.swap_remove(dice.below(self.customers.len() as u64) as usize);
        let answer = erase(self.app, self.tenant, whom).await;
        assert!(answer.status.is_success(), "{}", answer.body);
        assert!(answer.text("status") == "done" || !self.holds.is_empty(), "{}", answer.body);
        format!("an erasure, {}", answer.text("status"))
    }

    async fn release(&mut self, dice: &mut Dice) -> String {
        if self.holds.is_empty() {
            return "no hold left to be released".to_owned();
        }
        let hold = self.holds.swap_remove(dice.below(self.holds.len() as u64) as usize);
        let why = json!({"reason": "the case is closed"});
        release(self.app, self.tenant, hold, Some(&why)).await.expect(204);
        format!("a release, {} left", self.holds.len())
    }

    fn rotate(&self) -> String {
        self.app.keys.rotate(daybook::clock::now()).unwrap();
        self.app.keys.save().unwrap();
        "a rotation".to_owned()
    }

    async fn prune(&self, dice: &mut Dice) -> String {
        let (app, schema) = (self.app, self.tenant.schema());
        caught_up(app, self.tenant).await;
        app.sign_now(self.tenant).await;
        let (first, head) = (first_position(app, &schema).await, app.head(self.tenant).await);
        let position = first + dice.below((head - first + 1) as u64) as i64;
        let report = prune_at(app, self.tenant, recorded_at(app, &schema, position).await).await;
        let now_first = first_position(app, &schema).await;
        match report.refused {
            None => assert_eq!(now_first, (report.through_position + 1).max(first)),
            Some(hindrance) => {
                assert_eq!((hindrance, now_first), ("legal_hold", first));
                assert!(!self.holds.is_empty());
            }
        }
        format!("a pruning of {first}..{position}: {:?}", report.refused)
    }

    /// Signs it as it is, and holds that against everything that is known of it from before.
    async fn stays_true(&mut self) {
        let now = self.app.sign_now(self.tenant).await;
        let (ledger, schema) = (self.app.state.ledger(), self.tenant.schema());
        for before in &self.checkpoints {
            let shown = ledger.consistency(&schema, before.size, Some(now.size)).await.unwrap();
            tree::check_consistency(&shown.proof, before.size, &before.root, now.size, &now.root).unwrap();
        }
        for (position, hash) in &self.receipts {
            let shown = ledger.inclusion(&schema, *position, Some(now.size)).await.unwrap();
            tree::check_inclusion(&shown.proof, now.size, &now.root, position - 1, hash).unwrap();
        }
        self.checkpoints.push(now);
    }

    /// What the live verification, the verifier of bundles and other people's programs say.
    async fn verifies(&self) {
        caught_up(self.app, self.tenant).await;
        assert_replays(self.app, &self.tenant.schema()).await;
        let host = Host::beside(self.app, self.app.db.app_url.clone());
        let output = host.output(&["audit", "verify", "--tenant", &self.tenant.slug, "--json"]);
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&output.stderr));

        let folder = tempfile::tempdir().unwrap();
        let bundle = in_folder(&folder, "bundle.tar.gz");
        let first = first_position(self.app, &self.tenant.schema()).await;
        take(self.app, &self.tenant.token, &format!("?from={first}"), &bundle).await;
        // Of the two that sign now, a verifier who knows either is content.
        let keys = self.app.state.ledger().verifier_keys(&self.tenant.schema()).await.unwrap();
        let signing: Vec<_> = keys.iter().filter(|key| key.live).map(|key| key.vkey.as_str()).collect();
        for key in &signing {
            // Whatever anybody was told of what is in there.
            let receipts: Vec<String> = self
                .receipts
                .range(first as u64..)
                .flat_map(|(position, hash)| {
                    ["--receipt".to_owned(), format!("{position}:{}", hex::encode(hash))]
                })
                .collect();
            let arguments: Vec<&str> =
                ["--key", key].into_iter().chain(receipts.iter().map(String::as_str)).collect();
            let (code, said) = verify(&bundle, &arguments);
            assert_eq!((code, &said["outcome"]), (Some(0), &json!("verified")), "{said}");
            assert_eq!(said["report"]["from"], json!(first));
        }
        independent(&bundle, signing[0]);
    }
}

/// How it began, for each of them.
async fn begin<'a>(app: &'a TestApp, tenant: &'a TestTenant) -> Kept<'a> {
    let pool = app.resource(tenant, "Pitches", 1_000).await;
    let offering = app.nights_offering(tenant, &[pool]).await;
    Kept {
        app,
        tenant,
        offering,
        customers: Vec::new(),
        holds: Vec::new(),
        checkpoints: Vec::new(),
        receipts: BTreeMap::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_befalls_a_log_what_was_signed_of_it_stays_true() {
    let app = TestApp::start_with(generous()).await;
    let (tenant, other) = (app.business("camp").await, app.business("other").await);
    let mut dice = Dice::from_env("evidence");
    let mut others = begin(&app, &other).await;
    others.append(&mut dice).await;
    caught_up(&app, &other).await;
    let untouched = fingerprint(&app, &other.schema()).await;

    let mut kept = begin(&app, &tenant).await;
    kept.append(&mut dice).await;
    kept.stays_true().await;
    for step in 0..STEPS {
        let what = kept.goes_on(&mut dice).await;
        println!("{step}: {what}");
        kept.stays_true().await;
    }
    kept.verifies().await;

    // Nothing is held any more: who was to be erased is, all that may go goes, and it still verifies.
    while !kept.holds.is_empty() {
        kept.release(&mut dice).await;
    }
    assert_eq!(kept.prune(&mut dice).await.split(": ").last(), Some("None"));
    kept.rotate();
    kept.stays_true().await;
    kept.verifies().await;
    let waiting = app.get(&tenant, "/audit/erasures?status=queued").await.expect(200).body;
    assert_eq!(waiting["items"], Value::Array(Vec::new()));
    assert_eq!(fingerprint(&app, &other.schema()).await, untouched);
    others.stays_true().await;
    others.verifies().await;
    app.shut_down().await;
}
