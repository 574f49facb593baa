-- Events and personal values are deleted up to where an event of the log says that they are pruned, and while no legal hold
-- stands that had been placed before it. Not the read model says so: the schema's role writes that. The newest event that says
-- it lies above its own cut, so it is among those that stay. For the role that deletes this asks as the owner: it may read
-- neither.
CREATE OR REPLACE FUNCTION events_are_pruned_as_said() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    last_gone bigint;
    told jsonb;
    told_at bigint;
BEGIN
    SELECT max(position) INTO last_gone FROM gone;
    IF last_gone IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT position, convert_from(substring(leaf FROM 2), 'UTF8')::jsonb INTO told_at, told
    FROM events WHERE event_type = 'audit.pruned' ORDER BY position DESC LIMIT 1;
    IF told ->> 'type' IS DISTINCT FROM 'audit.pruned'
        OR last_gone > coalesce((told -> 'payload' ->> 'through_position')::bigint, 0) THEN
        RAISE EXCEPTION 'no event says that these are pruned' USING ERRCODE = '42501';
    END IF;
    -- The platform's log has no holds.
    IF to_regclass(format('%I.legal_holds', TG_TABLE_SCHEMA)) IS NOT NULL THEN
        IF EXISTS (
            SELECT FROM legal_holds
            WHERE released_at IS NULL AND from_position <= last_gone AND position < told_at
        ) THEN
            RAISE EXCEPTION 'a legal hold stands against it' USING ERRCODE = '42501';
        END IF;
    END IF;
    RETURN NULL;
END $$;

DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION %1$I.events_are_pruned_as_said() SET search_path = %1$I, pg_temp', current_schema());
    EXECUTE format('REVOKE EXECUTE ON FUNCTION %1$I.events_are_pruned_as_said() FROM PUBLIC', current_schema());
END $$;

-- An erasure deletes personal values as well, wherever they are; that is not this role.
CREATE TRIGGER sealed_values_pruned_as_said AFTER DELETE ON sealed_values REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT WHEN (current_user = 'daybook_retention') EXECUTE FUNCTION events_are_pruned_as_said();
