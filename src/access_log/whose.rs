//! Whose a request is, for what is written down about it: found out by whatever looks at its credentials or at the tenant
//! it names, and asked once it was answered.

use std::sync::{Arc, OnceLock};

use daybook_domain::TenantId;

use crate::auth::Principal;

tokio::task_local! {
    static CURRENT: Whose;
}

/// Whose a request is, as far as that was found out. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Whose(Arc<Found>);

#[derive(Debug, Default)]
struct Found {
    named: OnceLock<TenantId>,
    caller: OnceLock<Arc<Principal>>,
}

impl Whose {
    /// Answers a request whose it is to find out. What is spawned meanwhile is not part of it.
    pub async fn scope<F: Future>(&self, request: F) -> F::Output {
        CURRENT.scope(self.clone(), request).await
    }

    /// The tenant: the caller's, else the one that was named.
    pub fn tenant(&self) -> Option<TenantId> {
        match self.caller() {
            Some(caller) => caller.tenant,
            None => self.0.named.get().copied(),
        }
    }

    /// The caller, once they proved who they are.
    pub fn caller(&self) -> Option<&Principal> {
        self.0.caller.get().map(|caller| &**caller)
    }
}

/// The request in progress names a tenant, and there is one.
pub fn names(tenant: TenantId) {
    // The first name counts; outside a request it is nobody's.
    let _ = CURRENT.try_with(|whose| whose.0.named.set(tenant));
}

/// The request in progress is of this caller.
pub fn is_of(caller: &Arc<Principal>) {
    // A request has one caller.
    let _ = CURRENT.try_with(|whose| whose.0.caller.set(caller.clone()));
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[tokio::test]
    async fn the_tenant_that_was_named_first_counts_and_outside_a_request_none() {
        let (first, second) = (TenantId(Uuid::from_u128(1)), TenantId(Uuid::from_u128(2)));
        names(first);
        let whose = Whose::default();
        whose
            .scope(async {
                names(first);
                names(second);
            })
            .await;
        assert_eq!(whose.tenant(), Some(first));
        assert!(whose.caller().is_none());
    }
}
