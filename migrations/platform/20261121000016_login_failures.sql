-- Sign-ins that failed, by keyed hashes of account and address: what a lock-out is decided on, on every node.
-- Losing them in a crash opens a lock early and nothing else, so they are not worth writing twice.
CREATE UNLOGGED TABLE login_failures (
    key bytea PRIMARY KEY,
    failures integer NOT NULL,
    since timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX login_failures_since ON login_failures (since);
