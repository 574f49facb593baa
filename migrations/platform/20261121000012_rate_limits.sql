-- How often something was done in the window that is running, for limits that all nodes share.
--
-- Unlogged: every sign-in writes here, and without a write-ahead log that costs no wait for the disk. A crash of
-- PostgreSQL empties the table, which gives each client at most one more window's worth of attempts.
-- `key` is a keyed hash of an address, account or domain: the table tells nothing of them.
CREATE UNLOGGED TABLE rate_counters (
    bucket text NOT NULL,
    key bytea NOT NULL,
    window_start timestamptz NOT NULL,
    count integer NOT NULL,
    PRIMARY KEY (bucket, key)
) WITH (fillfactor = 70);
