-- The event store. Every log is a schema of its own with these tables: one per tenant, one for the platform.

-- One row: the point where the writers of a log queue, and its exact high-water mark.
CREATE TABLE log_head (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    position bigint NOT NULL DEFAULT 0 CHECK (position >= 0),
    recorded_at timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 10);
INSERT INTO log_head DEFAULT VALUES;

-- The leaf is the truth; every other column is an index over it and is checked against it.
CREATE TABLE events (
    position bigint PRIMARY KEY CHECK (position > 0),
    event_id uuid NOT NULL,
    aggregate_type text NOT NULL,
    aggregate_id uuid NOT NULL,
    sequence bigint NOT NULL CHECK (sequence > 0),
    event_type text NOT NULL,
    event_version integer NOT NULL,
    recorded_at timestamptz NOT NULL,
    actor text NOT NULL,
    on_behalf_of text,
    leaf bytea NOT NULL,
    CONSTRAINT events_stream_key UNIQUE (aggregate_id, sequence, aggregate_type)
);
CREATE INDEX events_type ON events (event_type, position);
CREATE INDEX events_actor ON events (actor, position);
-- Positions and times rise together, so a block range index is exact enough and costs nothing to append to.
CREATE INDEX events_recorded_at ON events USING brin (recorded_at);

CREATE FUNCTION events_are_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events are append-only' USING ERRCODE = '42501';
END $$;
CREATE TRIGGER events_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION events_are_append_only();

-- The current sequence of every stream.
CREATE TABLE streams (
    aggregate_id uuid NOT NULL,
    aggregate_type text NOT NULL,
    sequence bigint NOT NULL,
    CONSTRAINT streams_key PRIMARY KEY (aggregate_id, aggregate_type)
) WITH (fillfactor = 80);

CREATE TABLE snapshots (
    aggregate_type text NOT NULL,
    aggregate_id uuid NOT NULL,
    sequence bigint NOT NULL,
    fold_version integer NOT NULL,
    state jsonb NOT NULL,
    PRIMARY KEY (aggregate_id, aggregate_type)
);

-- Values that must be unique, as keyed hashes, so that the table tells nothing about them.
CREATE TABLE unique_claims (
    kind text NOT NULL,
    key_hmac bytea NOT NULL,
    owner uuid NOT NULL,
    CONSTRAINT unique_claims_key PRIMARY KEY (kind, key_hmac)
);
CREATE INDEX unique_claims_owner ON unique_claims (owner);

-- What was answered under an idempotency key, stored in the transaction of the command itself.
CREATE TABLE idempotency (
    scope text NOT NULL,
    key text NOT NULL,
    request_hash bytea NOT NULL,
    response jsonb NOT NULL,
    first_position bigint,
    last_position bigint,
    at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT idempotency_key PRIMARY KEY (scope, key)
);
CREATE INDEX idempotency_expiry ON idempotency USING brin (expires_at);

-- Personal values and their salts, each sealed with its subject's key; a leaf holds only the commitment.
CREATE TABLE sealed_values (
    position bigint NOT NULL,
    field text NOT NULL,
    subject_id uuid NOT NULL,
    ciphertext bytea NOT NULL,
    PRIMARY KEY (position, field)
);
CREATE INDEX sealed_values_subject ON sealed_values (subject_id);

CREATE TABLE subject_keys (
    subject_id uuid PRIMARY KEY,
    wrapped_key bytea,
    destroyed_at timestamptz,
    CHECK ((wrapped_key IS NULL) = (destroyed_at IS NOT NULL))
);

CREATE TABLE projection_checkpoints (
    name text PRIMARY KEY,
    version integer NOT NULL,
    position bigint NOT NULL DEFAULT 0,
    status text NOT NULL DEFAULT 'live' CHECK (status IN ('live', 'rebuilding', 'failed')),
    lease_owner uuid,
    lease_epoch bigint NOT NULL DEFAULT 0,
    lease_until timestamptz,
    caught_up_at timestamptz,
    error text
) WITH (fillfactor = 20);

CREATE TABLE parked_events (
    projection text NOT NULL,
    key uuid NOT NULL,
    position bigint NOT NULL,
    attempts integer NOT NULL DEFAULT 1,
    error text NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (projection, position)
);
CREATE INDEX parked_events_by_key ON parked_events (projection, key);

-- The log in the column layout of postgres-es, so that stock cqrs-es tools load its streams.
CREATE VIEW cqrs_events AS
SELECT aggregate_type,
       aggregate_id::text AS aggregate_id,
       sequence,
       event_type,
       event_version::text AS event_version,
       (convert_from(substring(leaf FROM 2), 'UTF8')::json) -> 'payload' AS payload,
       -- A map of texts, which is what cqrs-es reads as metadata; the version is a column of its own.
       ((convert_from(substring(leaf FROM 2), 'UTF8')::jsonb) - 'payload' - 'commitments' - 'version') AS metadata
FROM events;
