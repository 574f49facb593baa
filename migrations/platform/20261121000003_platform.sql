-- The platform schema: what is known of every tenant. Its log is in the same schema, made by migrations/log.

CREATE TABLE plans (
    id text PRIMARY KEY,
    sessions_per_user integer NOT NULL,
    audit_history_days integer NOT NULL,
    audit_export boolean NOT NULL,
    api_calls_per_hour integer NOT NULL
);
INSERT INTO plans VALUES
    ('free', 1, 90, false, 1000),
    ('starter', 2, 90, false, 1000),
    ('professional', 5, 365, false, 5000),
    ('business', 20, 1096, true, 20000);

-- Inline read model of the tenant aggregate.
CREATE TABLE tenants (
    id uuid PRIMARY KEY,
    slug text NOT NULL UNIQUE,
    name text NOT NULL,
    plan text NOT NULL REFERENCES plans (id),
    active boolean NOT NULL,
    temporary boolean NOT NULL,
    time_zone text NOT NULL,
    currency text NOT NULL,
    region text NOT NULL,
    version bigint NOT NULL,
    position bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);

-- Bootstrap bearer tokens: only a keyed hash is kept.
CREATE TABLE bootstrap_tokens (
    token_id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL,
    token_hash bytea NOT NULL UNIQUE,
    label text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);
CREATE INDEX bootstrap_tokens_tenant ON bootstrap_tokens (tenant_id);

-- Which migrations each tenant schema has; one query answers for all of them.
CREATE TABLE tenant_schemas (
    tenant_id uuid PRIMARY KEY,
    schema_version bigint NOT NULL,
    checksum bytea NOT NULL,
    migrated_at timestamptz NOT NULL DEFAULT now()
);

-- The keys file this database belongs to; a foreign or missing one is refused at start.
CREATE TABLE keys_file (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    fingerprint text NOT NULL
);
