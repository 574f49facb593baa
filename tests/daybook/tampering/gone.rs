//! What goes by right, and what goes otherwise: erasures, prunings, legal holds.

use daybook::eventstore::{Command, Unit};
use daybook_domain::{
    CustomerId, HoldId, Name, customer::CustomerCommand, envelope::Metadata, legal_hold::LegalHoldCommand,
    registry::AnyCommand,
};
use uuid::Uuid;

use super::{Scene, assert_causes, causes, positions};

impl Scene {
    async fn ask(&self, id: Uuid, command: impl Into<AnyCommand>) -> i64 {
        let because =
            Metadata { actor: "test".into(), reason: Some("as told".into()), ..Metadata::default() };
        let unit = Unit::of(Command::to(id, command), because);
        self.store().execute(&self.site.schema, unit).await.unwrap().last_position
    }

    async fn hold(&self, customer_id: Option<CustomerId>) -> Uuid {
        let id = Uuid::now_v7();
        let place = LegalHoldCommand::Place {
            name: Name::new("Case 7", "").unwrap(),
            customer_id,
            from_position: None,
        };
        self.ask(id, place).await;
        HoldId(id).0
    }

    /// Erases the customer who has a snapshot; answers where the log says so.
    async fn erase(&self) -> i64 {
        self.ask(self.customer.0, CustomerCommand::RequestErasure).await;
        self.ask(self.customer.0, CustomerCommand::CompleteErasure).await
    }
}

#[tokio::test]
async fn an_erasure_is_what_the_log_says_and_one_undone_is_not() {
    let mut scene = Scene::set().await;
    let hold = scene.hold(Some(scene.customer)).await;
    scene.ask(hold, LegalHoldCommand::Release).await;
    scene
        .attack("CREATE TABLE before AS TABLE {s}.subject_keys; CREATE TABLE snaps AS TABLE {s}.snapshots")
        .await;
    let erased = u64::try_from(scene.erase().await).unwrap();
    scene.sign().await;
    scene.expect(&[]).await;

    // The key put back from a backup; one that nobody destroyed; the snapshot that knows who it was.
    let whose = format!("subject_id = '{}'", scene.customer.0);
    scene.attack(&format!("CREATE TABLE after AS TABLE {{s}}.subject_keys; UPDATE {{s}}.subject_keys k SET wrapped_key = b.wrapped_key, destroyed_at = NULL FROM before b WHERE b.subject_id = k.subject_id AND k.{whose}")).await;
    let report = scene.verify().await;
    assert_eq!(positions(&report, "key_tombstone_unfounded"), [erased], "{report}");
    assert!(causes(&report).contains("sealed_value_invalid"), "what is gone has a key again: {report}");
    scene.attack(&format!("DELETE FROM {{s}}.subject_keys WHERE {whose}")).await;
    let report = scene.verify().await;
    assert_eq!(positions(&report, "key_tombstone_unfounded"), [erased], "{report}");
    scene.attack("DELETE FROM {s}.subject_keys; INSERT INTO {s}.subject_keys TABLE after; INSERT INTO {s}.snapshots TABLE snaps ON CONFLICT DO NOTHING").await;
    let report = scene.verify().await;
    assert_causes(&report, &["snapshot_mismatch"]);
    assert!(!report.to_string().contains("Ada"), "{report}");
}

#[tokio::test]
async fn a_tombstone_that_is_older_than_what_is_sealed_under_it() {
    let mut scene = Scene::set().await;
    scene.erase().await;
    scene.expect(&[]).await;
    let whose = format!("WHERE subject_id = '{}'", scene.customer.0);
    scene.attack(&format!("UPDATE {{s}}.subject_keys SET destroyed_at = '2001-01-01' {whose}")).await;
    let report = scene.expect(&["key_tombstone_unfounded"]).await;
    assert_eq!(report.counts["key_tombstone_unfounded"], 14, "{report}");
}

#[tokio::test]
async fn held_data_that_went() {
    let mut scene = Scene::set().await;
    let hold = scene.hold(None).await;
    scene.sign().await;
    scene.expect(&[]).await;
    scene
        .attack("CREATE TABLE before AS TABLE {s}.events; DELETE FROM {s}.events WHERE position <= 20")
        .await;
    let report = scene.verify().await;
    assert_eq!(positions(&report, "pruned_while_held"), [1], "{report}");
    assert_eq!(positions(&report, "pruned_without_event"), [1], "{report}");
    scene.attack("TRUNCATE {s}.events; INSERT INTO {s}.events TABLE before").await;
    scene.expect(&[]).await;
    // Erased after its release, and that is taken out of the log.
    let released = scene.ask(hold, LegalHoldCommand::Release).await;
    let erased = u64::try_from(scene.erase().await).unwrap();
    scene.expect(&[]).await;
    scene.attack(&format!("DELETE FROM {{s}}.events WHERE position = {released}")).await;
    let report = scene.verify().await;
    assert!(positions(&report, "pruned_while_held").contains(&erased), "{report}");
    assert_eq!(positions(&report, "missing_event"), [u64::try_from(released).unwrap()], "{report}");
}
