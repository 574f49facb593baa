//! What can be wrong with a log, by names that stay: programs and auditors go by them.

use std::fmt;

macro_rules! causes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)*) => {
        /// Why a log, a checkpoint or a bundle is not what it claims to be.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Cause { $($(#[$doc])* $variant,)* }

        impl Cause {
            /// Every cause.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

causes! {
    /// A leaf is not the one the tree has.
    LeafEdited = "leaf_edited";
    /// A column says something else than the leaf.
    ColumnMismatch = "column_mismatch";
    /// A position in the middle has no event.
    MissingEvent = "missing_event";
    /// The log ends before what was signed, or sealed.
    TailMissing = "tail_missing";
    /// A log that was signed is not there.
    TenantMissing = "tenant_missing";
    /// An event that the log's head does not know of.
    UnexpectedEvent = "unexpected_event";
    /// Two leaves stand in each other's places.
    PositionSwapped = "position_swapped";
    /// The tiles are not those of the leaves, or not of one tree.
    TreeMismatch = "tree_mismatch";
    /// A signature is missing or wrong.
    CheckpointSignature = "checkpoint_signature";
    /// A checkpoint of another log, or by another key.
    CheckpointForeign = "checkpoint_foreign";
    /// A checkpoint that another one, or the log, contradicts.
    CheckpointInconsistent = "checkpoint_inconsistent";
    /// A checkpoint older than one that is remembered elsewhere.
    CheckpointStale = "checkpoint_stale";
    /// A stream's sequences have a gap or come twice.
    SequenceGap = "sequence_gap";
    /// A sealed personal value is not what its leaf is committed to.
    SealedValueInvalid = "sealed_value_invalid";
    /// A sealed value is under another person's key.
    SubjectSwapped = "subject_swapped";
    /// A key was destroyed without the event that says so.
    KeyTombstoneUnfounded = "key_tombstone_unfounded";
    /// Events are gone without the event that says so.
    PrunedWithoutEvent = "pruned_without_event";
    /// Events are gone that a legal hold keeps.
    PrunedWhileHeld = "pruned_while_held";
    /// A snapshot is not what a replay arrives at.
    SnapshotMismatch = "snapshot_mismatch";
    /// A read model is not what a replay arrives at.
    ReadModelMismatch = "read_model_mismatch";
    /// A receipt names another leaf.
    ReceiptMismatch = "receipt_mismatch";
    /// A manifest is not that of the files beside it.
    ManifestMismatch = "manifest_mismatch";
    /// A row is missing.
    RowMissing = "row_missing";
    /// Rows are not in their order.
    RowOrder = "row_order";
    /// What the signer remembers was edited, taken away or set back.
    SignerStateInvalid = "signer_state_invalid";
    /// The log of heads was edited, or its copy says otherwise.
    HeadLogInconsistent = "head_log_inconsistent";
    /// It cannot be read at all.
    Malformed = "malformed";
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
