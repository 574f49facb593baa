//! The name of a log's schema, and SQL generated for it.

use std::{fmt, sync::Arc};

use daybook_domain::TenantId;

/// The schema (and role of the same name) that holds one log and its read models.
///
/// Made only from a tenant's id or as the platform's, so generated SQL never holds input.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Schema {
    name: Arc<str>,
    tenant: Option<TenantId>,
}

impl Schema {
    /// The schema of a tenant: `t_` and its id in hex.
    pub fn tenant(id: TenantId) -> Self {
        Self { name: format!("t_{}", id.0.simple()).into(), tenant: Some(id) }
    }

    /// The platform's own schema.
    pub fn platform() -> Self {
        Self { name: "daybook_platform".into(), tenant: None }
    }

    /// The tenant, or `None` for the platform's log.
    pub fn tenant_id(&self) -> Option<TenantId> {
        self.tenant
    }

    /// The id that stands for the log in its leaves: the tenant's, or the nil UUID for the platform.
    pub fn log_id(&self) -> TenantId {
        self.tenant.unwrap_or_default()
    }

    /// The schema's name, which is also its role's; needs no quoting.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The scratch schema beside this one in which read models are rebuilt or verified. It has no role of its own.
    #[must_use]
    pub fn scratch(&self, purpose: &'static str) -> Self {
        Self { name: format!("{}_{purpose}", self.name).into(), tenant: self.tenant }
    }

    /// Generates a statement from a template: `{s}` becomes this schema.
    ///
    /// Statements of the write path name their schema, because a prepared statement that meets another search
    /// path is planned anew.
    pub fn sql(&self, template: &str) -> String {
        template.replace("{s}", &self.name)
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
