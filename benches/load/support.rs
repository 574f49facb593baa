//! Reads in a support session, each of which is an event on disk before its answer leaves, in turn with the same reads by
//! the tenant's own key.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use daybook::{
    auth::password::{PasswordHasher, PasswordParams},
    eventstore::{Attached, Command, Unit},
    tenancy::Schema,
};
use daybook_domain::{
    UserId,
    envelope::Metadata,
    permission::Tier,
    text::{Email, Name},
    user::{By, UserCommand},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    Bench,
    client::{Always, Connection, get, post_as, run},
    report::{Row, Series},
    writes,
};

const EMAIL: &str = "sue@platform.example";
const PASSWORD: &str = "river-pitch-seven";
/// So many bookings are there at least to be read.
const FILLED: usize = 2_000;

/// A page of bookings, by one reader and by many.
pub async fn support(bench: &mut Bench) -> anyhow::Result<()> {
    writes::fill(bench, FILLED).await?;
    let tenant = bench.stack.tenants.first().context("a tenant")?.clone();
    let session = begin(bench, &tenant.slug).await?;
    for (name, path) in [
        ("bookings, page of 50, in a redacted session", "/api/v1/bookings?limit=50"),
        ("one resource, in a redacted session", "/api/v1/resources?limit=1"),
    ] {
        for clients in [1, 32] {
            let (mut own, mut series) = (Vec::new(), Series::default());
            for _ in 0..bench.repetitions {
                let plain = Arc::new(Always(get(path, &tenant.token)));
                own.push(run(bench.stack.address, clients, bench.aside(), plain).await?.rate);
                let seen = Arc::new(Always(get(path, &session)));
                series.push(run(bench.stack.address, clients, bench.duration, seen).await?);
            }
            bench.push(Row::rates(name, clients, 1, &series).against("by the tenant's key", &own));
        }
    }
    Ok(())
}

/// The token of a redacted session of one of the platform's people.
async fn begin(bench: &Bench, slug: &str) -> anyhow::Result<String> {
    let hasher = PasswordHasher::new(PasswordParams { memory_kib: 19 * 1024, iterations: 2, parallel: 1 })?;
    let (user, hash) = (UserId(Uuid::now_v7()), hasher.hash(PASSWORD.into()).await?);
    let command = UserCommand::Register {
        email: Email::new(EMAIL, "/email")?,
        name: Name::new("Sue", "/name")?,
        role: Tier::PlatformSupport.into(),
        modules: Default::default(),
        customer_id: None,
        by: By::Operator,
    };
    let metadata = Metadata { actor: "bench".into(), ..Metadata::default() };
    let unit = Unit::of(Command::create(user, command), metadata).attach(Attached::Password { user, hash });
    bench.stack.runtime.store.execute(&Schema::platform(), unit).await?;
    let mut connection = Connection::open(bench.stack.address).await?;
    let body = json!({"email": EMAIL, "password": PASSWORD}).to_string();
    let login = post(&mut connection, "/api/v1/auth/login", "accept: application/json", &body).await?;
    let start = json!({"tenant": slug, "mode": "redacted", "reason": "a benchmark"}).to_string();
    let bearer = format!("authorization: Bearer {login}");
    post(&mut connection, "/api/v1/support/sessions", &bearer, &start).await
}

/// The access token that a request is answered with.
async fn post(connection: &mut Connection, path: &str, header: &str, body: &str) -> anyhow::Result<String> {
    let mut request = Vec::new();
    post_as(&mut request, path, header, body);
    let (status, answer) = connection.exchange(&request).await?;
    ensure!((200..300).contains(&status), "{path}: {status} {}", String::from_utf8_lossy(answer));
    let answer: Value = serde_json::from_slice(answer)?;
    Ok(answer["access_token"].as_str().context("no access token")?.to_owned())
}
