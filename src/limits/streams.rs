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

/// The most exports of one tenant at once: each keeps a connection and a core busy.
pub const EXPORTS_PER_TENANT: usize = 3;

/// What stands in the place of a caller for a tenant's exports.
const EXPORTS: &str = "exports";

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
        self.enter_as((caller.tenant, caller.actor()), PER_CALLER)
    }

    /// One more export of a tenant.
    ///
    /// # Errors
    /// `rate_limited` when it has as many as it may.
    pub fn enter_export(&self, tenant: TenantId) -> Result<Place> {
        self.enter_as((tenant, EXPORTS.to_owned()), EXPORTS_PER_TENANT)
    }

    fn enter_as(&self, key: Key, most: usize) -> Result<Place> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(key.clone()).or_default();
        if *count >= most {
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
            (0..PER_CALLER).map(|_| streams.enter_as(key("user:1"), PER_CALLER).unwrap()).collect();
        assert_eq!(streams.enter_as(key("user:1"), PER_CALLER).unwrap_err().code(), Code::RateLimited);
        held.push(streams.enter_as(key("user:2"), PER_CALLER).unwrap());
        held.remove(0);
        held.push(streams.enter_as(key("user:1"), PER_CALLER).unwrap());
        let export = || streams.enter_export(TenantId::default());
        held.extend((0..EXPORTS_PER_TENANT).map(|_| export().unwrap()));
        assert_eq!(export().unwrap_err().code(), Code::RateLimited);
        held.clear();
        assert!(streams.0.lock().unwrap().is_empty());
    }
}
