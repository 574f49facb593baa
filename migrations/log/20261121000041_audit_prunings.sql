-- Inline read model of the audit trail aggregate: the last prunings of this log. Up to the newest one's position there is
-- no log any more, whether its rows are deleted yet or not: every reader begins after it.
CREATE TABLE audit_prunings (
    through_position bigint PRIMARY KEY,
    cut_at timestamptz NOT NULL,
    history_days integer NOT NULL,
    events bigint NOT NULL,
    pruned_at timestamptz NOT NULL,
    -- Over every leaf up to there, in hex, where the ledger had it.
    leaf_hash_root text
);

-- Events are deleted by one role only, and by that one only up to where an event says that they are.
CREATE OR REPLACE FUNCTION events_are_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_user = 'daybook_retention' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'events are append-only' USING ERRCODE = '42501';
END $$;

CREATE FUNCTION events_are_pruned_as_said() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    said bigint;
BEGIN
    EXECUTE format('SELECT coalesce(max(through_position), 0) FROM %I.audit_prunings', TG_TABLE_SCHEMA) INTO said;
    IF EXISTS (SELECT 1 FROM gone WHERE position > said) THEN
        RAISE EXCEPTION 'no event says that these are pruned' USING ERRCODE = '42501';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER events_pruned_as_said AFTER DELETE ON events REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION events_are_pruned_as_said();
