//! `daybook demo`: a server with something in it.

use std::{io::Write, net::SocketAddr, path::Path};

use anyhow::Context;
use clap::Args;
use daybook_domain::{
    ApiKeyId, BookingId, Currency, CustomerId, DomainError, Money, Nights, OfferingId, ResourceId, Slug,
    TenantId, UserId,
    booking::{BookingCommand, RequestedTime},
    customer::CustomerCommand,
    envelope::Metadata,
    offering::{
        CancellationPolicy, DEFAULT_HOLD_MINUTES, OfferingCommand, OfferingMode, OfferingTerms, PolicyTier,
        PricePer,
    },
    permission::Tier,
    resource::{ResourceCommand, ResourceKind},
    tenant::TenantCommand,
    text::{Email, Name, Phone},
    user::UserCommand,
};
use daybook_projections::{Schema, api_keys};
use secrecy::ExposeSecret;
use uuid::Uuid;

use super::{Mode, Runtime, runtime::cli_metadata, say, serve, user};
use crate::{
    config::Settings,
    eventstore::{Attached, Command, EventStore, IdempotencyKey, StoreError, Unit},
    import::{self, ImportOptions, PoolSizing},
    sample,
    tenancy::{Access, TenantInfo, TenantTx, admin::NewTenant},
};

/// Real bookings of two hotels, arrivals 1 to 21 July 2016; see demo/README.md for source and licence.
const HOTEL_BOOKINGS: &[u8] = include_bytes!("../../demo/hotel_bookings_july_2016.csv.gz");

/// The owner of each tenant of the demo.
const OWNER: &str = "owner@daybook.example";
/// The demo's superuser.
const SUPERUSER: &str = "root@daybook.example";
/// What the demo's own API keys are called.
const DEMO_KEY: &str = "demo";
/// Ids of what the demo makes are derived from this, so that a second start finds them again.
const NAMESPACE: Uuid = Uuid::from_u128(0x0192_4d0d_6c1b_7f4a_9a62_d0e5_dab0_0c01);

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// The address to listen on [default: 127.0.0.1:8080].
    #[arg(long)]
    pub listen: Option<SocketAddr>,
}

/// A tenant of the demo.
struct Sample {
    slug: &'static str,
    name: &'static str,
    plan: &'static str,
    time_zone: chrono_tz::Tz,
}

const SAMPLES: [Sample; 2] = [
    Sample {
        slug: "demo-camping",
        name: "Camping River",
        plan: "professional",
        time_zone: chrono_tz::Europe::Brussels,
    },
    Sample { slug: "demo-hotel", name: "Two Hotels", plan: "business", time_zone: chrono_tz::Europe::Lisbon },
];

pub async fn run(settings: Settings, _args: DemoArgs) -> anyhow::Result<()> {
    let runtime = Runtime::open(settings, Mode::Server, import::store_settings()).await?;
    crate::tenancy::migrate::all(runtime.store.database(), |_, _| {}).await?;
    let sample =
        sample::ensure(&runtime.store, &runtime.directory).await.context("make the sample tenant")?;
    let tenant = runtime.directory.by_id(sample).await?.context("find the sample tenant")?;
    let mut logins = vec![login(&runtime, tenant).await?];
    for sample in &SAMPLES {
        let tenant =
            find_or_create(&runtime, sample).await.with_context(|| format!("make {}", sample.slug))?;
        let schema = Schema::tenant(tenant.id);
        if sample.slug == "demo-hotel" {
            import_hotel(&runtime, &schema).await?;
        } else {
            fill_camping(&runtime.store, &schema, sample.slug).await?;
        }
        logins.push(login(&runtime, tenant).await?);
    }
    let mail = runtime.settings.mail_dir();
    let superuser = sign_in_anew(&runtime, &Schema::platform(), SUPERUSER, Tier::Superuser).await?;
    serve::serve(runtime, |address| print_tour(address, &logins, &superuser, &mail)).await
}

/// What is printed of a tenant: how to get into it.
struct Login {
    tenant: TenantInfo,
    key: String,
    password: String,
}

/// A new key and a new password of a tenant's owner.
async fn login(runtime: &Runtime, tenant: TenantInfo) -> anyhow::Result<Login> {
    let key = renew_token(runtime, &tenant).await?;
    let password = sign_in_anew(runtime, &Schema::tenant(tenant.id), OWNER, Tier::TenantOwner).await?;
    Ok(Login { tenant, key, password })
}

/// An account of this address with a new password: only hashes are kept, so each start sets another one.
async fn sign_in_anew(runtime: &Runtime, schema: &Schema, email: &str, tier: Tier) -> anyhow::Result<String> {
    let password = crate::random::token("")?.expose_secret()[..16].to_owned();
    let hash = user::hasher(runtime)?.hash(password.as_str().into()).await?;
    match user::lookup(runtime, schema, email).await? {
        None => {
            user::register(runtime, schema, email, None, tier, hash, "demo").await?;
        }
        Some(row) => {
            let user = UserId(row.id);
            let unit = Unit::of(Command::to(user, UserCommand::SetPassword), cli_metadata("demo"))
                .attach(Attached::Password { user, hash });
            runtime.store.execute(schema, unit).await?;
        }
    }
    Ok(password)
}

async fn find_or_create(runtime: &Runtime, sample: &Sample) -> anyhow::Result<TenantInfo> {
    if let Some(tenant) = runtime.directory.by_slug(sample.slug).await? {
        return Ok(tenant);
    }
    let new = NewTenant {
        slug: Slug::new(sample.slug, "/slug")?,
        name: sample.name.to_owned(),
        plan: sample.plan.to_owned(),
        temporary: true,
        time_zone: sample.time_zone,
        currency: Currency::EUR,
    };
    runtime.admin.create(new, &cli_metadata("demo")).await?;
    Ok(runtime.admin.find(sample.slug).await?)
}

/// Only hashes of keys are stored, so each start issues a new one and revokes those of earlier starts.
async fn renew_token(runtime: &Runtime, tenant: &TenantInfo) -> anyhow::Result<String> {
    let metadata = cli_metadata("demo");
    runtime.admin.command(tenant.id, TenantCommand::Activate, &metadata).await?;
    for id in demo_keys(runtime, tenant.id).await? {
        runtime.admin.revoke_key(tenant.id, id, &metadata).await?;
    }
    let issued = runtime.admin.issue_key(tenant.id, DEMO_KEY, &metadata).await?;
    Ok(issued.key.expose_secret().to_owned())
}

/// The keys of earlier starts that still work.
async fn demo_keys(runtime: &Runtime, tenant: TenantId) -> anyhow::Result<Vec<ApiKeyId>> {
    let database = runtime.store.database();
    let mut tx = TenantTx::begin(database.app(), &Schema::tenant(tenant), Access::Read).await?;
    let keys = api_keys::list(&mut tx, Some(false), None, 200).await?;
    tx.release();
    Ok(keys.into_iter().filter(|key| key.name == DEMO_KEY).map(|key| ApiKeyId(key.id)).collect())
}

async fn import_hotel(runtime: &Runtime, schema: &Schema) -> anyhow::Result<()> {
    let directory = runtime.settings.data_dir.join("demo");
    tokio::fs::create_dir_all(&directory).await.context("make the demo's directory")?;
    let file = directory.join("hotel_bookings_july_2016.csv.gz");
    tokio::fs::write(&file, HOTEL_BOOKINGS).await.context("unpack the sample bookings")?;
    let options = ImportOptions {
        report: Some(directory.join("hotel_bookings_july_2016.refusals.csv")),
        file,
        pools: PoolSizing::Honoured,
        limit: None,
    };
    let _ = write!(std::io::stderr(), "importing real hotel bookings into demo-hotel … ");
    let summary = import::run(&runtime.store, schema, options, |_| {}).await?;
    let _ = writeln!(
        std::io::stderr(),
        "{} rows, {} taken, {} refused for space, {} invalid",
        summary.rows,
        summary.accepted,
        summary.slot_taken,
        summary.invalid
    );
    Ok(())
}

/// Pitches, a lodge, guests and bookings in the weeks ahead. Each command has a key: a second start repeats nothing.
async fn fill_camping(store: &EventStore, schema: &Schema, slug: &str) -> anyhow::Result<()> {
    let seed = Seed { store, schema, slug };
    let pitches = ResourceId(seed.id("pitches"));
    let lodge = ResourceId(seed.id("lodge"));
    let zone = chrono_tz::Europe::Brussels;
    for (id, name, kind, capacity) in [
        (pitches, "Pitches by the river", ResourceKind::Pool, Some(12)),
        (lodge, "The lodge", ResourceKind::Unit, None),
    ] {
        let name = Name::new(name, "/name")?;
        seed.command(id.0, ResourceCommand::Create { name, kind, capacity, time_zone: zone }).await?;
    }
    let offerings = [("Pitch, per night", pitches, 2_800), ("Lodge, per night", lodge, 11_500)];
    for (name, resource, amount) in offerings {
        let terms = OfferingTerms {
            name: Name::new(name, "/name")?,
            mode: OfferingMode::Nights,
            resource_ids: vec![resource],
            price: Money { amount, currency: Currency::EUR },
            price_per: PricePer::Night,
            cancellation_policy: CancellationPolicy {
                tiers: vec![
                    PolicyTier { hours_before: 168, fee_percent: 30 },
                    PolicyTier { hours_before: 48, fee_percent: 100 },
                ],
            },
            hold_minutes: DEFAULT_HOLD_MINUTES,
            ..OfferingTerms::default()
        };
        seed.command(seed.id(name), OfferingCommand::Create { terms: Box::new(terms) }).await?;
    }
    let mut connection = store.database().app().acquire(None).await.context("ask for the date")?;
    let today: chrono::NaiveDate = sqlx::query_scalar("SELECT current_date")
        .fetch_one(&mut *connection)
        .await
        .context("ask for the date")?;
    drop(connection);
    for (index, guest) in
        ["Mila Peeters", "Noah Janssens", "Olivia Maes", "Arthur Jacobs", "Louise Mertens"].iter().enumerate()
    {
        let customer = CustomerId(seed.id(guest));
        let address = format!("{}@example.org", guest.to_lowercase().replace(' ', "."));
        let command = CustomerCommand::Register {
            name: Name::new(guest, "/name")?,
            email: Some(Email::new(&address, "/email")?),
            phone: Some(Phone::new(&format!("+32 470 00 00 0{index}"), "/phone")?),
        };
        seed.command(customer.0, command).await?;
        let from = today + chrono::Days::new(3 + 2 * index as u64);
        let command = BookingCommand::Book {
            offering_id: OfferingId(seed.id(offerings[index % 2].0)),
            resource_id: None,
            unit: None,
            customer_id: customer,
            when: RequestedTime::Nights(Nights::new(from, from + chrono::Days::new(3))?),
            guests: 2,
            hold: false,
            notes: None,
            price_override: None,
        };
        seed.command(BookingId(seed.id(&format!("stay of {guest}"))).0, command).await?;
    }
    Ok(())
}

struct Seed<'a> {
    store: &'a EventStore,
    schema: &'a Schema,
    slug: &'a str,
}

impl Seed<'_> {
    fn id(&self, name: &str) -> Uuid {
        Uuid::new_v5(&NAMESPACE, format!("{}/{name}", self.slug).as_bytes())
    }

    async fn command(
        &self,
        id: Uuid,
        command: impl Into<daybook_domain::registry::AnyCommand>,
    ) -> anyhow::Result<()> {
        let metadata =
            Metadata { actor: "cli:demo".into(), source: Some("demo".into()), ..Metadata::default() };
        let mut unit = Unit::of(Command::to(id, command), metadata);
        let key = id.to_string();
        unit.idempotency = Some(IdempotencyKey { scope: "demo".into(), key, request_hash: [0; 32] });
        match self.store.execute(self.schema, unit).await {
            Ok(_) => Ok(()),
            // A start after the keys have been pruned finds everything there, or its dates taken.
            Err(StoreError::Refused {
                error: DomainError::AlreadyExists { .. } | DomainError::SlotTaken,
                ..
            }) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("fill {} with sample data", self.slug)),
        }
    }
}

fn print_tour(address: SocketAddr, logins: &[Login], superuser: &str, mail: &Path) {
    say(format_args!("\nDaybook is listening on http://{address}\n"));
    for Login { tenant, key, password } in logins {
        say(format_args!(
            "  {:<13} {:<14} {OWNER} {password}\n  {:<28} key {key}",
            tenant.slug, tenant.name, ""
        ));
    }
    say(format_args!("  {:<13} {:<14} {SUPERUSER} {superuser}", "(platform)", ""));
    let Some(Login { key: hotel, .. }) = logins.last() else { return };
    let Some(Login { key: camping, password, .. }) = logins.get(1) else { return };
    say(format_args!(
        "\nTry:\n\
         \x20 curl -s 'http://{address}/api/v1/calendar?from=2016-07-01&to=2016-07-08' -H 'Authorization: Bearer {hotel}'\n\
         \x20 curl -s 'http://{address}/api/v1/bookings?limit=2' -H 'Authorization: Bearer {camping}'\n\
         \x20 curl -s 'http://{address}/api/v1/audit/events?limit=2' -H 'Authorization: Bearer {camping}'\n\
         \x20 curl -s http://{address}/api/v1/auth/login -H 'X-Tenant-Slug: demo-camping' -H 'Content-Type: application/json' \\\n\
         \x20   -d '{{\"email\":\"{OWNER}\",\"password\":\"{password}\"}}'\n\
         Mail goes to {}. The API is described at http://{address}/api/docs/ — stop with Ctrl-C.\n",
        mail.display()
    ));
}
