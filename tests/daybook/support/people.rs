//! People with accounts, who sign in over HTTP.

use daybook::{
    auth::password::{PasswordHasher, PasswordParams},
    config::SettingsPatch,
    eventstore::{Attached, Command, Unit},
    tenancy::Schema,
};
use daybook_domain::{
    CustomerId, UserId,
    envelope::Metadata,
    permission::Tier,
    tenant::TenantCommand,
    text::{Email, Name},
    user::{By, UserCommand},
};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::app::{Answer, TestApp, TestTenant, read};

/// The password of everybody.
pub const PASSWORD: &str = "river-pitch-seven";

/// A person, signed in.
#[derive(Clone, Debug)]
pub struct Person {
    pub id: Uuid,
    /// Their access token.
    pub token: String,
    /// Their refresh token.
    pub refresh: String,
}

/// Settings that count generously what is limited by address: all tests come from the same one.
pub fn generous() -> SettingsPatch {
    SettingsPatch {
        login_limit_per_minute: Some(1_000),
        reset_limit_per_hour: Some(1_000),
        signup_limit_per_hour: Some(1_000),
        ..SettingsPatch::default()
    }
}

impl TestApp {
    /// A tenant whose people may have twenty sessions each.
    pub async fn business(&self, slug: &str) -> TestTenant {
        let tenant = self.tenant(slug).await;
        let plan = TenantCommand::ChangePlan { plan: "business".into() };
        self.admin.command(tenant.id, plan, &Metadata::default()).await.unwrap();
        tenant
    }

    /// An account of a tenant, or of the platform, with [`PASSWORD`].
    pub async fn account(
        &self,
        tenant: Option<&TestTenant>,
        email: &str,
        tier: Tier,
        customer: Option<CustomerId>,
    ) -> UserId {
        let schema = tenant.map_or_else(Schema::platform, |tenant| tenant.schema());
        let user = UserId(Uuid::now_v7());
        let params = PasswordParams { memory_kib: 1_024, iterations: 2, parallel: 2 };
        let hash = PasswordHasher::new(params).unwrap().hash(PASSWORD.into()).await.unwrap();
        let command = UserCommand::Register {
            email: Email::new(email, "/email").unwrap(),
            name: Name::new(email.split('@').next().unwrap(), "/name").unwrap(),
            role: tier.into(),
            modules: Default::default(),
            customer_id: customer,
            by: By::Operator,
        };
        let metadata = Metadata { actor: "test".into(), ..Metadata::default() };
        let unit =
            Unit::of(Command::create(user, command), metadata).attach(Attached::Password { user, hash });
        self.store.execute(&schema, unit).await.unwrap();
        user
    }

    /// An account that has signed in.
    pub async fn person(&self, tenant: &TestTenant, email: &str, tier: Tier) -> Person {
        self.account(Some(tenant), email, tier, None).await;
        self.sign_in(Some(tenant), email).await
    }

    /// Signs in with [`PASSWORD`].
    pub async fn sign_in(&self, tenant: Option<&TestTenant>, email: &str) -> Person {
        let answer = self.login(tenant, email, PASSWORD).await.expect(200);
        Person {
            id: answer.body["user"]["id"].as_str().unwrap().parse().unwrap(),
            token: answer.text("access_token"),
            refresh: refresh_cookie(&answer).unwrap(),
        }
    }

    /// Tries to sign in.
    pub async fn login(&self, tenant: Option<&TestTenant>, email: &str, password: &str) -> Answer {
        let body = json!({"email": email, "password": password});
        let mut request = self.client.post(self.url("/auth/login")).json(&body);
        if let Some(tenant) = tenant {
            request = request.header("X-Tenant-Slug", &tenant.slug);
        }
        read(request).await
    }

    /// Uses a refresh token.
    pub async fn refresh(&self, token: &str) -> Answer {
        let request = self
            .client
            .post(self.url("/auth/refresh"))
            .header("Content-Type", "application/json")
            .header("Cookie", format!("__Host-daybook_refresh={token}"));
        read(request).await
    }

    /// A POST without credentials.
    pub async fn anonymous(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let mut request = self.client.post(self.url(path)).json(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        read(request).await
    }

    /// A POST without credentials that names a tenant.
    pub async fn anonymous_at(&self, tenant: &TestTenant, path: &str, body: &Value) -> Answer {
        self.anonymous(path, &[("X-Tenant-Slug", &tenant.slug)], body).await
    }

    /// Changes rows that no request can, such as to move them back in time; says how many.
    pub async fn sql(&self, schema: &Schema, sql: &str) -> u64 {
        let owner = self.store.database().owner();
        sqlx::query(&schema.sql(sql)).execute(owner).await.unwrap().rows_affected()
    }

    /// A request with a bearer token.
    pub async fn with_token(&self, token: &str, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let mut request = self.client.request(method, self.url(path)).bearer_auth(token);
        if let Some(body) = body {
            request = request.json(body);
        }
        read(request).await
    }

    /// A GET with a bearer token.
    pub async fn get_as(&self, token: &str, path: &str) -> Answer {
        self.with_token(token, Method::GET, path, None).await
    }

    /// A POST with a bearer token.
    pub async fn post_as(&self, token: &str, path: &str, body: &Value) -> Answer {
        self.with_token(token, Method::POST, path, Some(body)).await
    }

    /// The address of a route.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/api/v1{path}", self.address)
    }
}

/// The refresh token an answer sets; `None` when it sets none or takes it away.
pub fn refresh_cookie(answer: &Answer) -> Option<String> {
    let header = answer.header("set-cookie")?;
    let value = header.strip_prefix("__Host-daybook_refresh=")?.split(';').next()?;
    (!value.is_empty()).then(|| value.to_owned())
}
