//! How many answers without an end each caller has open on this process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use daybook_domain::TenantId;
use http::{HeaderValue, header};

use crate::{
    auth::Caller,
    http::problem::{Code, Problem, Result},
};

/// The most that one caller may have open at once.
pub const PER_CALLER: usize = 10;

/// A caller: their tenant, and what events call them.
type Key = (TenantId, String);

/// How many streams each caller has open. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct OpenStreams(Arc<Mutex<HashMap<Key, usize>>>);

/// One open stream of a caller; given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    streams: OpenStreams,
    key: Key,
}

impl OpenStreams {
    /// One more stream of a caller.
    ///
    /// # Errors
    /// `rate_limited` when they have as many open as they may.
    pub fn enter(&self, caller: &Caller) -> Result<Place> {
        self.enter_as((caller.tenant, caller.actor()))
    }

    fn enter_as(&self, key: Key) -> Result<Place> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(key.clone()).or_default();
        if *count >= PER_CALLER {
            return Err(Problem::new(Code::RateLimited, "Too many streams are open; close one first.")
                .with_note("open_streams")
                .with_header(header::RETRY_AFTER, HeaderValue::from_static("1")));
        }
        *count += 1;
        Ok(Place { streams: self.clone(), key })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_given_back() {
        let streams = OpenStreams::default();
        let key = |name: &str| (TenantId::default(), name.to_owned());
        let mut held: Vec<Place> =
            (0..PER_CALLER).map(|_| streams.enter_as(key("user:1")).unwrap()).collect();
        assert_eq!(streams.enter_as(key("user:1")).unwrap_err().code(), Code::RateLimited);
        held.push(streams.enter_as(key("user:2")).unwrap());
        held.remove(0);
        held.push(streams.enter_as(key("user:1")).unwrap());
        held.clear();
        assert!(streams.0.lock().unwrap().is_empty());
    }
}
