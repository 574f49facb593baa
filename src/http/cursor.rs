//! Opaque cursors: the sort key of the last item, bound to the tenant and the filter it was made for.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use daybook_domain::TenantId;
use serde::{Serialize, de::DeserializeOwned};
use utoipa::ToSchema;

use super::{
    problem::{Problem, Result},
    query::{FromParams, Params},
};
use crate::keys::Keys;

/// Items of a page unless asked otherwise.
pub const DEFAULT_LIMIT: i64 = 50;
/// The most items of a page.
pub const MAX_LIMIT: i64 = 200;
const TAG_BYTES: usize = 16;

/// `?limit=` and `?cursor=`.
#[derive(Clone, Debug)]
pub struct Page {
    /// The most items wanted, at least one.
    pub limit: i64,
    cursor: Option<String>,
}

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Listing<T> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// The `cursor` of the next page; null on the last one.
    pub next_cursor: Option<String>,
}

/// Makes and reads the cursors of one list as one tenant sees it under one filter.
#[derive(Clone, Copy)]
pub struct Cursors<'a> {
    keys: &'a Keys,
    tenant: TenantId,
    /// The list's name and its filter: a cursor of another list or filter is no cursor here.
    scope: &'a str,
}

impl<'a> Cursors<'a> {
    /// The cursors of a list; `scope` names it and holds its filter.
    pub fn new(keys: &'a Keys, tenant: TenantId, scope: &'a str) -> Self {
        Self { keys, tenant, scope }
    }

    fn tag(&self, payload: &[u8]) -> [u8; TAG_BYTES] {
        let mut bound = Vec::with_capacity(self.scope.len() + payload.len() + 8);
        bound.extend((self.scope.len() as u64).to_be_bytes());
        bound.extend(self.scope.as_bytes());
        bound.extend(payload);
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&self.keys.hmac_unique("list_cursor", self.tenant.0, &bound)[..TAG_BYTES]);
        tag
    }

    /// The cursor after an item of this sort key.
    pub fn encode<K: Serialize>(&self, last: &K) -> Option<String> {
        let payload = serde_json::to_vec(last).ok()?;
        let mut bytes = self.tag(&payload).to_vec();
        bytes.extend(payload);
        Some(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// The sort key in a page's cursor.
    ///
    /// # Errors
    /// `malformed` when the cursor was not made here for this tenant, list and filter.
    pub fn decode<K: DeserializeOwned>(&self, page: &Page) -> Result<Option<K>> {
        let Some(cursor) = &page.cursor else { return Ok(None) };
        let malformed = || Problem::malformed("This cursor does not belong to this list and filter.");
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| malformed())?;
        let (tag, payload) = bytes.split_at_checked(TAG_BYTES).ok_or_else(malformed)?;
        let genuine: bool = subtle::ConstantTimeEq::ct_eq(tag, &self.tag(payload)[..]).into();
        if !genuine {
            return Err(malformed());
        }
        serde_json::from_slice(payload).map(Some).map_err(|_| malformed())
    }

    /// A page of at most `page.limit` items, from one more than that, so that the last page is known as such.
    pub fn page<R, K: Serialize, T>(
        &self,
        page: &Page,
        mut rows: Vec<R>,
        key: impl FnOnce(&R) -> K,
        item: impl FnMut(R) -> T,
    ) -> Listing<T> {
        let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = rows.last().filter(|_| more).and_then(|last| self.encode(&key(last)));
        Listing { items: rows.into_iter().map(item).collect(), next_cursor }
    }
}

impl<T, E> Listing<Result<T, E>> {
    /// The listing, if every item of it could be made.
    ///
    /// # Errors
    /// That of the first item that could not.
    pub fn transpose(self) -> Result<Listing<T>, E> {
        let items = self.items.into_iter().collect::<Result<_, E>>()?;
        Ok(Listing { items, next_cursor: self.next_cursor })
    }
}

impl FromParams for Page {
    fn from_params(params: &mut Params<'_>) -> Result<Self> {
        Self::take(params)
    }
}

impl Page {
    /// Takes `limit` and `cursor` from a query.
    ///
    /// # Errors
    /// `validation_failed` when the limit is not 1 to 200.
    pub fn take(params: &mut Params) -> Result<Self> {
        let limit = params.optional::<i64>("limit")?.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(Problem::field("?limit", "out_of_range", "a limit is 1 to 200"));
        }
        Ok(Self { limit, cursor: params.text("cursor")? })
    }

    /// One more than the limit: what to ask the database for.
    pub fn fetch(&self) -> i64 {
        self.limit + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::problem::Code;

    fn keys() -> Keys {
        Keys::generate(std::path::Path::new("/nonexistent/keys.toml"), chrono::DateTime::UNIX_EPOCH).unwrap()
    }

    fn page(cursor: Option<String>) -> Page {
        Page { limit: 2, cursor }
    }

    #[test]
    fn a_cursor_leads_on_and_the_last_page_has_none() {
        let keys = keys();
        let cursors = Cursors::new(&keys, TenantId::default(), "resources");
        let first = cursors.page(&page(None), vec![1, 2, 3], |last| *last, |n| n);
        assert_eq!(first.items, [1, 2]);
        assert_eq!(cursors.decode::<i32>(&page(first.next_cursor)).unwrap(), Some(2));
        assert_eq!(cursors.page(&page(None), vec![1, 2], |last| *last, |n| n).next_cursor, None);
    }

    #[test]
    fn a_cursor_of_another_tenant_list_or_filter_is_malformed() {
        let keys = keys();
        let here = Cursors::new(&keys, TenantId::default(), "bookings?status=held");
        let cursor = here.encode(&1);
        let other = TenantId(uuid::Uuid::max());
        for cursors in [Cursors::new(&keys, other, here.scope), Cursors::new(&keys, here.tenant, "bookings")]
        {
            assert_eq!(cursors.decode::<i32>(&page(cursor.clone())).unwrap_err().code(), Code::Malformed);
        }
        for wrong in ["", "x", "AAAA", "!!!!", &"A".repeat(200)] {
            assert!(here.decode::<i32>(&page(Some(wrong.to_owned()))).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_limit_is_1_to_200() {
        for (query, limit) in [
            ("", Some(50)),
            ("limit=1", Some(1)),
            ("limit=200", Some(200)),
            ("limit=0", None),
            ("limit=201", None),
            ("limit=x", None),
        ] {
            let mut params = Params::parse(Some(query)).unwrap();
            assert_eq!(Page::take(&mut params).ok().map(|page| page.limit), limit, "{query}");
        }
    }
}
