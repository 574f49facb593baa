//! kill -9 at each step between an event and its signed checkpoint: whatever was cut off is done again, and nothing twice.

use std::time::Duration;

use daybook::{config::SettingsPatch, ledger::Ledger, tenancy::Schema};

use crate::{
    ledger::{assert_sound, checkpoints},
    support::{
        app::{TestApp, TestTenant, eventually},
        process::{Host, Server},
        proxy::{Hold, Proxy},
    },
};

const FAST: [(&str, &str); 3] = [
    ("DAYBOOK_LEDGER_SEAL_INTERVAL", "50ms"),
    ("DAYBOOK_LEDGER_SIGN_INTERVAL", "50ms"),
    ("DAYBOOK_HEAD_LOG_INTERVAL", "100ms"),
];

/// The steps by what is said in their transactions: tiles, the signer's memory, the log's own list, the log of heads.
const STEPS: [&str; 4] = [
    "INSERT INTO ledger_tiles",
    "UPDATE ledger_signer",
    "INSERT INTO ledger_checkpoints",
    "INSERT INTO head_log_entries",
];

/// A node that leaves the ledger alone after its first look, and a host whose servers see to it.
async fn world() -> (TestApp, TestTenant, Proxy, Host) {
    let hour = || "1h".parse().ok();
    let patch = SettingsPatch {
        ledger_seal_interval: hour(),
        ledger_sign_interval: hour(),
        head_log_interval: hour(),
        ..SettingsPatch::default()
    };
    let app = TestApp::start_with(patch).await;
    let tenant = app.tenant("camp").await;
    // From here on the node leaves the log alone for an hour.
    eventually("the node has had its first look", Duration::from_secs(30), async || {
        app.state.ledger().latest(&tenant.schema()).await.unwrap().is_some()
    })
    .await;
    let proxy = Proxy::start(&app.db.app_url).await;
    let host = Host::beside(&app, proxy.url(&app.db.app_url));
    (app, tenant, proxy, host)
}

/// Waits until the log is signed to its end and named in the log of heads, by whoever.
async fn settled(app: &TestApp, schema: &Schema, head: u64) {
    eventually("everything is signed", Duration::from_secs(30), async || {
        let ledger = Ledger::new(app.store.clone(), "http://unused.example");
        let latest = ledger.latest(schema).await.unwrap();
        let Some(latest) = latest.filter(|latest| latest.size >= head) else { return false };
        if checkpoints(app.store.database().owner(), schema).await.last() != Some(&latest) {
            return false;
        }
        let named = ledger.head_proof(schema).await.unwrap();
        named.is_some_and(|proof| proof.head.contains(&hex::encode(latest.root)))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_cut_off_is_done_again() {
    let (app, tenant, proxy, host) = world().await;
    let schema = tenant.schema();
    let start = || -> Server { host.serve_with(&FAST) };
    // What an update needs is there.
    let mut server = start();
    app.customer(&tenant, "First").await;
    settled(&app, &schema, app.head(&tenant).await as u64).await;
    server.kill();
    for step in STEPS {
        for hold in [Hold::Answer, Hold::Command, Hold::Late] {
            app.customer(&tenant, &format!("{step} {hold:?}")).await;
            proxy.hold(hold, step);
            let mut server = start();
            proxy.held().await;
            server.kill();
            proxy.let_go();
            let mut server = start();
            settled(&app, &schema, app.head(&tenant).await as u64).await;
            server.kill();
            let fresh = Ledger::new(app.store.clone(), "http://unused.example");
            assert_sound(&fresh, &schema).await;
        }
    }
    let owner = app.store.database().owner();
    assert!(checkpoints(owner, &schema).await.len() > STEPS.len() * 3);
    let turn = Ledger::new(app.store.clone(), "http://unused.example")
        .sign_heads(
            &daybook::ledger::HeadCopy::open(host.data.join("ledger").to_str().unwrap()).unwrap(),
            Duration::ZERO,
        )
        .await
        .unwrap();
    assert_eq!(turn.alarms, []);
}
