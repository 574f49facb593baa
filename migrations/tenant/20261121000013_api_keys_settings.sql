-- Inline read model of the API key aggregate.
CREATE TABLE api_keys (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    prefix text NOT NULL,
    permissions text[] NOT NULL,
    tier text NOT NULL,
    -- Null: as the plan says; negative: any number.
    calls_per_hour integer,
    expires_at timestamptz,
    revoked boolean NOT NULL,
    version bigint NOT NULL,
    position bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX api_keys_by_prefix ON api_keys (prefix);

-- What a key is recognised by. Not a read model: nothing of it is in the log.
CREATE TABLE api_key_secrets (
    api_key_id uuid PRIMARY KEY,
    salt bytea NOT NULL,
    hash bytea NOT NULL,
    last_used_at timestamptz
);

-- Inline read model of the settings aggregate: one row, under the tenant's id.
CREATE TABLE settings (
    id uuid PRIMARY KEY,
    public_bookings boolean NOT NULL,
    display_name text,
    hijack_without_approval boolean NOT NULL,
    secrets text[] NOT NULL,
    version bigint NOT NULL,
    position bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);

-- The tenant's secrets, sealed with keys that are not in the database; their names are in the settings.
CREATE TABLE secrets (
    name text PRIMARY KEY,
    ciphertext text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
