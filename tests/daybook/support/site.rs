//! A tenant with things to book, driven through the event store, without HTTP.

use std::sync::Arc;

use chrono::{DateTime, Days, NaiveDate, Utc};
use daybook::{
    auth::AuthDirectory,
    eventstore::{Command, Committed, EventStore, IdempotencyKey, StoreError, StoreSettings, Unit},
    keys::Keys,
    tenancy::{
        Database, Schema, TenantDirectory,
        admin::{NewTenant, TenantAdmin},
        database::PoolSettings,
        migrate,
    },
};
use daybook_domain::{
    BookingId, Currency, CustomerId, DomainError, Money, Name, Nights, OfferingId, ResourceId, Slug,
    TenantId,
    booking::{BookingCommand, RequestedTime},
    customer::CustomerCommand,
    envelope::Metadata,
    offering::{CancellationPolicy, OfferingCommand, OfferingMode, OfferingTerms, PolicyTier, PricePer},
    resource::{ResourceCommand, ResourceKind},
};
use sqlx::PgPool;
use uuid::Uuid;

use super::cluster::{TestDb, cluster};

/// One tenant on a database of its own, and one process's worth of store.
pub struct Site {
    pub db: Arc<TestDb>,
    pub keys: Arc<Keys>,
    pub store: EventStore,
    pub admin: TenantAdmin,
    pub tenant: TenantId,
    pub schema: Schema,
    pub customer: CustomerId,
    _keys_dir: tempfile::TempDir,
}

impl Site {
    /// A site on a fresh database.
    pub async fn open() -> Self {
        let db = cluster().await.create_platform().await;
        Self::open_on(
            db,
            &PoolSettings { read_connections: 4, write_connections: 2, ..PoolSettings::default() },
        )
        .await
    }

    /// A site with pools of these sizes.
    pub async fn open_on(db: TestDb, pools: &PoolSettings) -> Self {
        let database =
            Database::connect(db.app_options.clone(), db.owner_options.clone(), pools).await.unwrap();
        // The platform's tables are there; this lets the login role of this database in.
        migrate::platform(&database).await.unwrap();
        let keys_dir = tempfile::tempdir().unwrap();
        let path = keys_dir.path().join("keys.toml");
        let keys = Arc::new(Keys::load_or_create(&path, true, DateTime::<Utc>::UNIX_EPOCH).unwrap());
        let store = EventStore::new(database.clone(), keys.clone(), StoreSettings::default());
        let directory = TenantDirectory::new(database);
        let admin = TenantAdmin::new(store.clone(), directory);
        let tenant = admin.create(new_tenant("site"), &by("test")).await.unwrap();
        let mut site = Self {
            db: Arc::new(db),
            keys,
            store,
            admin,
            tenant,
            schema: Schema::tenant(tenant),
            customer: CustomerId::default(),
            _keys_dir: keys_dir,
        };
        site.customer = site.new_customer("Ada Lovelace").await;
        site
    }

    /// The schema of another tenant on the same database.
    pub async fn second_tenant(&self) -> Schema {
        Schema::tenant(self.admin.create(new_tenant("other"), &by("test")).await.unwrap())
    }

    /// Who calls, as one node knows it.
    pub fn auth(&self) -> AuthDirectory {
        AuthDirectory::new(self.store.database().clone(), self.keys.clone())
    }

    /// The store of another process on the same database.
    pub async fn second_store(&self) -> EventStore {
        self.store_on(&self.db).await
    }

    /// A store with this site's keys on any database.
    pub async fn store_on(&self, db: &TestDb) -> EventStore {
        self.store_with(db, StoreSettings::default()).await
    }

    /// A store of these sizes, with this site's keys, on any database.
    pub async fn store_with(&self, db: &TestDb, settings: StoreSettings) -> EventStore {
        let pools = PoolSettings { read_connections: 4, write_connections: 2, ..PoolSettings::default() };
        let database =
            Database::connect(db.app_options.clone(), db.owner_options.clone(), &pools).await.unwrap();
        EventStore::new(database, self.keys.clone(), settings)
    }

    /// The owner's pool: what no request can see.
    pub fn owner(&self) -> &PgPool {
        self.store.database().owner()
    }

    /// Runs one command.
    pub async fn run(&self, command: Command) -> Result<Committed, StoreError> {
        self.store.execute(&self.schema, Unit::of(command, by("test"))).await
    }

    /// A resource of one unit, or a pool.
    pub async fn resource(&self, capacity: u32) -> ResourceId {
        let id = ResourceId(Uuid::now_v7());
        let kind = if capacity == 1 { ResourceKind::Unit } else { ResourceKind::Pool };
        let create = ResourceCommand::Create {
            name: Name::new("Pitch", "").unwrap(),
            kind,
            capacity: Some(capacity),
            time_zone: chrono_tz::Europe::Brussels,
        };
        self.run(Command::create(id, create)).await.unwrap();
        id
    }

    /// An offering by nights over resources.
    pub async fn offering(&self, resources: &[ResourceId]) -> OfferingId {
        self.offering_of(stay_terms(resources)).await
    }

    /// An offering.
    pub async fn offering_of(&self, terms: OfferingTerms) -> OfferingId {
        let id = OfferingId(Uuid::now_v7());
        let create = OfferingCommand::Create { terms: Box::new(terms) };
        self.run(Command::create(id, create)).await.unwrap();
        id
    }

    /// A customer.
    pub async fn new_customer(&self, name: &str) -> CustomerId {
        let id = CustomerId(Uuid::now_v7());
        let register =
            CustomerCommand::Register { name: Name::new(name, "").unwrap(), email: None, phone: None };
        self.run(Command::create(id, register)).await.unwrap();
        id
    }

    /// A booking of some nights from the given day on (see [`day`]).
    pub fn book(&self, offering: OfferingId, from: u64, nights: u64) -> Command {
        Command::create(BookingId(Uuid::now_v7()), self.stay(offering, from, nights))
    }

    fn stay(&self, offering_id: OfferingId, from: u64, nights: u64) -> BookingCommand {
        BookingCommand::Book {
            offering_id,
            resource_id: None,
            unit: None,
            customer_id: self.customer,
            when: nights_from(from, nights),
            guests: 2,
            hold: false,
            notes: None,
            price_override: None,
        }
    }

    /// Runs statements as the owner; `{s}` is the tenant's schema.
    pub async fn owner_sql(&self, sql: &str) {
        sqlx::raw_sql(&self.schema.sql(sql)).execute(self.owner()).await.unwrap();
    }

    /// The position of the log.
    pub async fn head(&self) -> i64 {
        head(self.owner(), &self.schema).await
    }

    /// Asserts that positions are 1..=n and every stream's sequences too; answers with n.
    pub async fn assert_gap_free(&self) -> i64 {
        assert_gap_free(self.owner(), &self.schema).await
    }
}

/// The position of a log.
pub async fn head(owner: &PgPool, schema: &Schema) -> i64 {
    sqlx::query_scalar(&schema.sql("SELECT position FROM {s}.log_head")).fetch_one(owner).await.unwrap()
}

/// Asserts that a log's positions are 1..=n, that its sequences are, and that its head says n.
pub async fn assert_gap_free(owner: &PgPool, schema: &Schema) -> i64 {
    let sql = schema.sql(
        "SELECT count(*), coalesce(min(position), 1), coalesce(max(position), 0), (SELECT position FROM {s}.log_head),
                (SELECT count(*) FROM (
                     SELECT 1 FROM {s}.events GROUP BY aggregate_type, aggregate_id
                     HAVING max(sequence) <> count(*) OR min(sequence) <> 1) AS broken)
         FROM {s}.events",
    );
    let (count, first, last, head, broken): (i64, i64, i64, i64, i64) =
        sqlx::query_as(&sql).fetch_one(owner).await.unwrap();
    assert_eq!((first, last, count), (1, head, head), "positions have a gap");
    assert_eq!(broken, 0, "a stream has a gap");
    head
}

/// At no instant do more claims overlap on a resource than it has units, and no unit is given twice.
pub async fn assert_no_double_booking(owner: &PgPool, schema: &Schema) {
    let sql = schema.sql(
        "SELECT count(*) FROM (
             SELECT a.booking_id
             FROM {s}.slot_claims a
             JOIN {s}.slot_resources r USING (resource_id)
             JOIN {s}.slot_claims b ON b.resource_id = a.resource_id
                  AND b.starts_at <= a.starts_at AND b.ends_at > a.starts_at
             GROUP BY a.booking_id, a.unit, r.capacity
             HAVING count(*) > r.capacity
                 OR (a.unit IS NOT NULL AND count(*) FILTER (WHERE b.unit = a.unit) > 1)) AS too_many",
    );
    let (too_many,): (i64,) = sqlx::query_as(&sql).fetch_one(owner).await.unwrap();
    assert_eq!(too_many, 0, "a resource is booked more often than it has units");
}

/// Waits until this many backends of the database wait for a lock: a schedule by what PostgreSQL says, not by
/// the clock.
pub async fn wait_until_blocked(owner: &PgPool, backends: i64) {
    loop {
        let (blocked,): (i64,) = sqlx::query_as(
            "SELECT count(DISTINCT l.pid) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
             WHERE NOT l.granted AND a.datname = current_database()",
        )
        .fetch_one(owner)
        .await
        .unwrap();
        if blocked >= backends {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// Whether a command lost its slot; panics on any other failure.
pub fn took(result: &Result<Committed, StoreError>) -> bool {
    match result {
        Ok(_) => true,
        Err(StoreError::Refused { error: DomainError::SlotTaken, .. }) => false,
        Err(error) => panic!("neither taken nor lost: {error:?}"),
    }
}

/// Metadata of an actor.
pub fn by(actor: &str) -> Metadata {
    Metadata { actor: actor.to_owned(), ..Metadata::default() }
}

/// A unit under an idempotency key.
pub fn keyed(command: Command, scope: &str, key: &str, hash: u8) -> Unit {
    let idempotency =
        IdempotencyKey { scope: scope.to_owned(), key: key.to_owned(), request_hash: [hash; 32] };
    Unit { idempotency: Some(idempotency), ..Unit::of(command, by("test")) }
}

/// A tenant of this slug.
pub fn new_tenant(slug: &str) -> NewTenant {
    NewTenant {
        slug: Slug::new(slug, "/slug").unwrap(),
        name: format!("Tenant {slug}"),
        plan: "free".into(),
        temporary: false,
        time_zone: chrono_tz::Europe::Brussels,
        currency: Currency::EUR,
    }
}

/// The terms of a stay by nights: half the price within two days.
pub fn stay_terms(resources: &[ResourceId]) -> OfferingTerms {
    OfferingTerms {
        name: Name::new("Stay", "").unwrap(),
        mode: OfferingMode::Nights,
        resource_ids: resources.to_vec(),
        price: Money { amount: 5_000, currency: Currency::EUR },
        price_per: PricePer::Night,
        cancellation_policy: CancellationPolicy {
            tiers: vec![PolicyTier { hours_before: 48, fee_percent: 50 }],
        },
        hold_minutes: 15,
        ..OfferingTerms::default()
    }
}

/// The n-th day from the first of March 2031, a date that no notice or window touches.
pub fn day(n: u64) -> NaiveDate {
    NaiveDate::from_ymd_opt(2031, 3, 1).unwrap() + Days::new(n)
}

/// Nights from the n-th day on.
pub fn nights_from(from: u64, nights: u64) -> RequestedTime {
    RequestedTime::Nights(Nights::new(day(from), day(from + nights)).unwrap())
}

/// A small deterministic generator (xorshift64*), so that a failing case can be run again by its seed.
pub struct Dice(u64);

impl Dice {
    /// A generator of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// The seed of `DAYBOOK_TEST_SEED`, or a random one; printed, so that a failure can be repeated.
    pub fn from_env(test: &str) -> Self {
        let seed = match std::env::var("DAYBOOK_TEST_SEED") {
            Ok(seed) => seed.parse().unwrap(),
            Err(_) => u64::from(u32::from_le_bytes(daybook::random::bytes().unwrap())),
        };
        println!("{test}: DAYBOOK_TEST_SEED={seed}");
        Self::new(seed)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    }
}

impl super::cluster::TestCluster {
    /// A database with a migrated platform schema.
    pub async fn create_platform(&self) -> TestDb {
        let template = format!("platform_{}", &hex::encode(migrate::Kind::Platform.checksum())[..12]);
        self.ensure_template(&template, |owner| async move {
            let database = Database::connect(owner.clone(), owner, &PoolSettings::default()).await.unwrap();
            migrate::platform(&database).await.unwrap();
            database.close().await;
        })
        .await;
        self.create_database(Some(&template)).await
    }
}
