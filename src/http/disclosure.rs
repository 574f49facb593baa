//! How much of personal data the caller of a request is shown. The gate says so around every request
//! (`auth/authorize.rs`), and what serialises an answer asks. Where nobody said anything, it is hidden.

use daybook_domain::{
    disclosed::disclosing,
    permission::{Action, Resource, Scope},
    registry::AggregateType,
};

use crate::auth::Principal;

/// How much is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disclosure {
    /// All that the caller may read.
    Clear,
    /// Everything but personal data: a marker is in its place, and nothing is found by it.
    Masked,
}

impl Disclosure {
    /// What a caller is shown.
    pub fn to(caller: &Principal) -> Self {
        if caller.masked { Self::Masked } else { Self::Clear }
    }
}

/// Whether a caller may see the personal values of all aggregates of a kind: those that they may read all of. To read the
/// audit trail is not enough, so that whoever watches over it need not know whom it is about.
pub fn may_see(caller: &Principal, kind: AggregateType) -> bool {
    let resource = match kind {
        AggregateType::Booking => Resource::Bookings,
        AggregateType::Customer => Resource::Customers,
        AggregateType::Lead => Resource::Leads,
        AggregateType::User => Resource::Users,
        // Nothing personal is in them.
        _ => return false,
    };
    caller.permissions.scope(resource, Action::Read).is_some_and(|scope| scope >= Scope::Tenant)
}

tokio::task_local! {
    static CURRENT: Disclosure;
}

/// Answers a request so. What is spawned meanwhile is not part of it.
pub async fn scope<F: Future>(disclosure: Disclosure, request: F) -> F::Output {
    CURRENT.scope(disclosure, request).await
}

/// How much the caller of the request in progress is shown.
pub fn current() -> Disclosure {
    CURRENT.try_with(|current| *current).unwrap_or(Disclosure::Masked)
}

/// Whether personal data is hidden from a caller whom the gate knows: not from guests, who are shown nothing but their own.
pub fn is_masked() -> bool {
    CURRENT.try_with(|current| *current == Disclosure::Masked).unwrap_or(false)
}

/// Serialises an answer for the caller of the request in progress.
pub fn serialising<R>(f: impl FnOnce() -> R) -> R {
    match current() {
        Disclosure::Clear => disclosing(f),
        Disclosure::Masked => f(),
    }
}

/// Runs `f` with everything shown, on this thread only and whatever request is in progress: for a file of somebody who
/// may read all of it.
pub fn in_the_clear<R>(f: impl FnOnce() -> R) -> R {
    CURRENT.sync_scope(Disclosure::Clear, || disclosing(f))
}

#[cfg(test)]
mod tests {
    use daybook_domain::disclosed::Disclosed;
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::http::respond;

    async fn answered() -> String {
        let response = respond::json(&Disclosed::from("Ada Canary".to_owned())).unwrap();
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn an_answer_is_written_as_its_caller_may_read_it() {
        assert_eq!(scope(Disclosure::Clear, answered()).await, r#""Ada Canary""#);
        assert_eq!(scope(Disclosure::Masked, answered()).await, r#""[personal]""#);
    }

    #[tokio::test]
    async fn where_nobody_said_anything_it_is_hidden() {
        assert_eq!(current(), Disclosure::Masked);
        assert_eq!(answered().await, r#""[personal]""#);
        let spawned = scope(Disclosure::Clear, async { tokio::spawn(answered()).await.unwrap() });
        assert_eq!(spawned.await, r#""[personal]""#);
    }

    #[tokio::test]
    async fn requests_in_progress_at_once_do_not_mix() {
        let wait = |disclosure| {
            scope(disclosure, async {
                tokio::task::yield_now().await;
                answered().await
            })
        };
        let (clear, masked) = tokio::join!(wait(Disclosure::Clear), wait(Disclosure::Masked));
        assert_eq!((clear.as_str(), masked.as_str()), (r#""Ada Canary""#, r#""[personal]""#));
    }
}
