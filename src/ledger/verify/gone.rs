//! What is gone of a log, and whether the log says so: events by `audit.pruned`, values by `customer.erased`; neither while
//! a legal hold kept it.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use daybook_domain::{
    RecordedEvent,
    audit_trail::{self, AuditTrail, AuditTrailEvent},
    customer::{Customer, CustomerEvent},
    legal_hold::{Held, LegalHold, LegalHoldEvent},
    registry::Registered as _,
};
use uuid::Uuid;

use super::{findings::Findings, tiles::Claim};
use crate::ledger::{Cause, tree::Hash, unsigned};

/// What a pruning let go.
#[derive(Clone, Debug)]
struct Pruning {
    /// What was recorded before then.
    cut_at: DateTime<Utc>,
    /// The root of the tree up to there, in hex.
    root: Option<String>,
    /// Where the event is that says so, unless that was pruned itself.
    position: Option<i64>,
}

/// A legal hold.
#[derive(Clone, Debug)]
struct Hold {
    held: Held,
    /// From which position on it is known to have stood.
    placed: i64,
}

/// An erasure of somebody's values.
#[derive(Clone, Debug)]
struct Erasure {
    position: i64,
    customer: Uuid,
    subjects: Vec<Uuid>,
    /// Whether this is the erasure itself, and not what was carried over of it.
    itself: bool,
}

/// What the events of a log say that is gone, and what is not to go.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// By the position up to which.
    prunings: BTreeMap<i64, Pruning>,
    holds: HashMap<Uuid, Hold>,
    /// By which position each hold is known to have been over.
    released: HashMap<Uuid, i64>,
    erasures: Vec<Erasure>,
}

impl Facts {
    /// Notes what an event says.
    pub(super) fn note(&mut self, event: &RecordedEvent) {
        let (id, position) = (event.aggregate_id, event.position);
        match AuditTrail::event_of(&event.event) {
            Some(AuditTrailEvent::Pruned(pruned)) => self.pruning(&pruned.pruning, Some(position)),
            Some(AuditTrailEvent::CarriedOver(carried)) => {
                carried.state.prunings.iter().for_each(|pruning| self.pruning(pruning, None));
            }
            None => {}
        }
        match LegalHold::event_of(&event.event) {
            Some(LegalHoldEvent::Placed(held)) => self.hold(id, held, position),
            Some(LegalHoldEvent::Released(_)) => self.release(id, position),
            // The release may be pruned, and an older state that was carried over not: it was over by then.
            Some(LegalHoldEvent::CarriedOver(carried)) => match (&carried.state.held, &carried.state.release)
            {
                (Some(held), None) => self.hold(id, held, carried.past.through_position),
                (_, Some(_)) => self.release(id, carried.past.through_position),
                (None, None) => {}
            },
            None => {}
        }
        match Customer::event_of(&event.event) {
            Some(CustomerEvent::Erased { customer_id, subjects, .. }) => {
                let subjects = subjects.iter().map(|subject| subject.0).collect();
                self.erasures.push(Erasure { position, customer: customer_id.0, subjects, itself: true });
            }
            Some(CustomerEvent::CarriedOver(carried)) if carried.state.is_erased() => {
                self.erasures.push(Erasure { position, customer: id, subjects: vec![id], itself: false });
            }
            Some(
                CustomerEvent::CarriedOver(_)
                | CustomerEvent::Registered { .. }
                | CustomerEvent::Updated { .. }
                | CustomerEvent::Archived { .. }
                | CustomerEvent::ErasureRequested { .. },
            )
            | None => {}
        }
    }

    fn pruning(&mut self, pruning: &audit_trail::Pruning, position: Option<i64>) {
        let known = self.prunings.entry(pruning.through_position).or_insert_with(|| Pruning {
            cut_at: pruning.cut_at,
            root: pruning.leaf_hash_root.clone(),
            position,
        });
        known.position = known.position.or(position);
    }

    fn hold(&mut self, id: Uuid, held: &Held, placed: i64) {
        let hold = self.holds.entry(id).or_insert_with(|| Hold { held: held.clone(), placed });
        hold.placed = hold.placed.min(placed);
    }

    fn release(&mut self, id: Uuid, position: i64) {
        let released = self.released.entry(id).or_insert(position);
        *released = position.min(*released);
    }

    /// Adds what other events said.
    pub(super) fn extend(&mut self, other: Self) {
        for (through, said) in other.prunings {
            match self.prunings.get_mut(&through) {
                Some(known) if known.position.is_some() => {}
                Some(known) => *known = said,
                None => drop(self.prunings.insert(through, said)),
            }
        }
        for (id, Hold { held, placed }) in other.holds {
            self.hold(id, &held, placed);
        }
        for (id, position) in other.released {
            self.release(id, position);
        }
        self.erasures.extend(other.erasures);
    }

    /// Up to where the log says that it was pruned; 0: it never was.
    pub(super) fn pruned_through(&self) -> i64 {
        self.prunings.last_key_value().map_or(0, |(through, _)| *through)
    }

    /// What was recorded before then was pruned.
    pub(super) fn pruned_before(&self) -> Option<DateTime<Utc>> {
        self.prunings.values().map(|pruning| pruning.cut_at).max()
    }

    /// Whose keys the log says were destroyed, and where it says so.
    pub(super) fn destroyed(&self) -> HashMap<Uuid, i64> {
        let each = self
            .erasures
            .iter()
            .flat_map(|it| it.subjects.iter().map(move |subject| (*subject, it.position)));
        each.collect()
    }

    /// The roots that prunings wrote down of what they let go.
    pub(super) fn claims(&self) -> Vec<Claim> {
        let claim = |(through, pruning): (&i64, &Pruning)| {
            let mut root = Hash::default();
            hex::decode_to_slice(pruning.root.as_deref()?, &mut root).ok()?;
            let by = match pruning.position {
                Some(position) => format!("audit.pruned at position {position}"),
                None => "a pruning that was carried over".to_owned(),
            };
            Some(Claim { size: unsigned(*through), root, cause: Cause::CheckpointInconsistent, by })
        };
        self.prunings.iter().filter_map(claim).collect()
    }

    fn standing_at(&self, position: i64) -> impl Iterator<Item = (&Uuid, &Held)> {
        self.holds.iter().filter_map(move |(id, hold)| {
            let over = self.released.get(id).is_some_and(|released| *released < position);
            (hold.placed < position && !over).then_some((id, &hold.held))
        })
    }

    /// Finds what went although a legal hold kept it. `missing` are ranges of positions that are gone without a pruning.
    pub(super) fn held(&self, missing: &[(i64, i64)], findings: &Findings) {
        let mut before = 0;
        for (through, pruning) in &self.prunings {
            let went = before + 1..=*through;
            before = *through;
            let Some(position) = pruning.position else { continue };
            for (id, held) in self.standing_at(position).filter(|(_, held)| held.from() <= *went.end()) {
                let detail = format!(
                    "positions {} to {through} were pruned, and legal hold {id} kept those from {} on",
                    went.start(),
                    held.from()
                );
                findings.at(Cause::PrunedWhileHeld, position, detail);
            }
        }
        for (first, last) in missing {
            for (id, _) in self.standing_at(i64::MAX).filter(|(_, held)| held.from() <= *last) {
                let detail = format!("the events up to {last} are gone, and legal hold {id} keeps them");
                findings.at(Cause::PrunedWhileHeld, *first, detail);
            }
        }
        for Erasure { position, customer, itself, .. } in &self.erasures {
            let keeps = |held: &Held| held.customer_id.is_none_or(|held| held.0 == *customer);
            for (id, _) in self.standing_at(*position).filter(|(_, held)| *itself && keeps(held)) {
                let detail = format!("customer {customer} was erased, and legal hold {id} kept that");
                findings.at(Cause::PrunedWhileHeld, *position, detail);
            }
        }
    }
}
