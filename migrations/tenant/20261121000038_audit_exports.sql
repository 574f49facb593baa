-- Inline read model of exports of the log.
CREATE TABLE audit_exports (
    id uuid PRIMARY KEY,
    format text NOT NULL,
    after_position bigint NOT NULL,
    until_position bigint NOT NULL,
    filter jsonb NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz,
    rows bigint,
    last_position bigint,
    complete boolean,
    version bigint NOT NULL,
    position bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
-- What pruning waits for.
CREATE INDEX audit_exports_unfinished ON audit_exports (started_at) WHERE ended_at IS NULL;
