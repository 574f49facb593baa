//! A leaf as it is read to be checked: in place, strictly.

use std::{borrow::Cow, collections::BTreeMap};

use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use uuid::Uuid;

use crate::eventstore::leaf::{LEAF_VERSION, format_time, parse_time};

/// What a leaf says.
#[derive(Deserialize)]
pub(super) struct LeafView<'a> {
    pub tenant: Uuid,
    #[serde(borrow)]
    position: Cow<'a, str>,
    pub id: Uuid,
    #[serde(borrow, rename = "type")]
    pub event_type: Cow<'a, str>,
    pub version: u16,
    #[serde(borrow)]
    pub aggregate_type: Cow<'a, str>,
    pub aggregate_id: Uuid,
    #[serde(borrow)]
    sequence: Cow<'a, str>,
    #[serde(borrow)]
    pub recorded_at: Cow<'a, str>,
    #[serde(borrow)]
    pub occurred_at: Cow<'a, str>,
    #[serde(borrow)]
    pub actor: Cow<'a, str>,
    #[serde(borrow, default)]
    pub on_behalf_of: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub role: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub support_mode: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub reason: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub ip: Option<Cow<'a, str>>,
    #[serde(default)]
    pub request_id: Option<Uuid>,
    #[serde(borrow, default)]
    pub correlation_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub causation_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub payload: &'a RawValue,
    #[serde(borrow, default)]
    pub commitments: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    #[serde(borrow)]
    nonce: Cow<'a, str>,
}

impl<'a> LeafView<'a> {
    /// Reads a leaf that is in canonical form.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(leaf: &'a [u8]) -> Result<Self, &'static str> {
        let Some((&LEAF_VERSION, text)) = leaf.split_first() else {
            return Err("the leaf is of an unknown version");
        };
        let view: Self = serde_json::from_slice(text).map_err(|_| "the leaf is not of its form")?;
        let value: Value = serde_json::from_slice(text).map_err(|_| "the leaf is not JSON")?;
        let canonical =
            serde_json_canonicalizer::to_vec(&value).map_err(|_| "the leaf has no canonical form")?;
        if canonical != text {
            return Err("the leaf is not in canonical form");
        }
        if [&view.recorded_at, &view.occurred_at].into_iter().any(|time| !is_time(time)) {
            return Err("a time is not written as times are");
        }
        if view.nonce.len() != 32 || !view.nonce.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err("the leaf has no nonce");
        }
        Ok(view)
    }

    /// The position it claims.
    pub fn position(&self) -> Option<u64> {
        number(&self.position)
    }

    /// Its place in its stream.
    pub fn sequence(&self) -> Option<u64> {
        number(&self.sequence)
    }
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|value: &u64| *value > 0 && value.to_string() == text)
}

/// Microseconds in UTC, so that times are in the order of their texts.
fn is_time(text: &str) -> bool {
    text.len() == 27 && parse_time(text).is_some_and(|time| format_time(time) == text)
}
