//! What goes by right, and what goes otherwise: erasures, prunings, legal holds.

use daybook::{
    eventstore::{Command, Unit},
    workers::log_pruning::{self, Cut, PruneReport},
};
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

    /// Prunes what was recorded before a position was.
    async fn prune(&mut self, before: i64) -> PruneReport {
        let at = self.one(&format!("SELECT recorded_at FROM {{s}}.events WHERE position = {before}")).await;
        let cut = Cut { at, history_days: 90 };
        log_pruning::prune(&self.ledger(), &self.site.schema, cut).await.unwrap()
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

#[tokio::test]
async fn a_pruning_is_what_the_log_says_and_more_of_it_is_not() {
    let mut scene = Scene::set().await;
    // The last customer's own events are kept from some sequence on; another one was erased.
    let erased = scene.customer;
    scene.erase().await;
    scene.customer = scene.register("Eve Canary", "eve@canary.example").await;
    let before = scene.one_more().await.last_position;
    scene.sign().await;
    scene.expect(&[]).await;
    let report = scene.prune(before).await;
    assert_eq!((report.refused, report.through_position), (None, before - 1));
    scene.sign().await;
    let report = scene.expect(&[]).await;
    assert_eq!(report.pruned_through, u64::try_from(before - 1).unwrap());
    assert!(report.events < report.position);

    // A key that was destroyed, it says, before what was pruned; though its values are carried over the cut.
    scene
        .attack(&format!(
            "CREATE TABLE keys AS TABLE {{s}}.subject_keys; CREATE TABLE sealed AS TABLE {{s}}.sealed_values;
             UPDATE {{s}}.subject_keys k SET wrapped_key = NULL, destroyed_at = o.destroyed_at
             FROM {{s}}.subject_keys o WHERE o.subject_id = '{}' AND k.subject_id = '{}';
             DELETE FROM {{s}}.sealed_values WHERE subject_id = '{}'",
            erased.0, scene.customer.0, scene.customer.0
        ))
        .await;
    let report = scene.verify().await;
    assert!(causes(&report).contains("key_tombstone_unfounded"), "{report}");
    scene
        .attack(
            "TRUNCATE {s}.subject_keys; INSERT INTO {s}.subject_keys TABLE keys;
             TRUNCATE {s}.sealed_values; INSERT INTO {s}.sealed_values TABLE sealed",
        )
        .await;
    scene.expect(&[]).await;

    // More than was said; and without saying it.
    scene
        .attack(&format!(
            "CREATE TABLE before AS TABLE {{s}}.events; DELETE FROM {{s}}.events WHERE position = {before}"
        ))
        .await;
    let report = scene.verify().await;
    assert_eq!(positions(&report, "pruned_without_event"), [u64::try_from(before).unwrap()], "{report}");
    scene.attack("TRUNCATE {s}.events; INSERT INTO {s}.events TABLE before; DELETE FROM {s}.events WHERE event_type = 'audit.pruned'").await;
    let report = scene.verify().await;
    assert_eq!(positions(&report, "pruned_without_event"), [1], "{report}");
    assert!(causes(&report).contains("tail_missing"), "{report}");
}

#[tokio::test]
async fn held_data_that_is_pruned_and_erased_by_rule_with_the_hold_taken_out_of_the_way() {
    let mut scene = Scene::set().await;
    scene.hold(None).await;
    let before = scene.one_more().await.last_position;
    scene.sign().await;
    scene.expect(&[]).await;
    assert_eq!(scene.prune(before - 2).await.refused, Some("legal_hold"));
    // Whoever asks about holds is told that there are none.
    scene.attack("DELETE FROM {s}.legal_holds").await;
    assert_eq!(scene.prune(before - 2).await.refused, None);
    let erased = u64::try_from(scene.erase().await).unwrap();
    scene.sign().await;
    let report = scene.expect(&["pruned_while_held", "read_model_mismatch"]).await;
    assert_eq!(report.counts["pruned_while_held"], 2, "{report}");
    assert!(positions(&report, "pruned_while_held").contains(&erased), "{report}");
}
