-- How far the erasure of a customer has come: asked for, done.
ALTER TABLE customers ADD COLUMN erasure_requested_at timestamptz;
ALTER TABLE customers ADD COLUMN erased_at timestamptz;
CREATE INDEX customers_erasures ON customers (id) WHERE erasure_requested_at IS NOT NULL;
CREATE INDEX customers_to_erase ON customers (id) WHERE erasure_requested_at IS NOT NULL AND erased_at IS NULL;

-- Destroys what an event of the log says is destroyed, and nothing else: the keys of the subjects it names become
-- tombstones of its time, and what was sealed with them goes. The schema's role can do neither by itself, and not even
-- this while a legal hold stands.
CREATE FUNCTION erase_subjects(of_event bigint) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    told jsonb;
    told_at timestamptz;
    subjects uuid[];
BEGIN
    SELECT convert_from(substring(leaf FROM 2), 'UTF8')::jsonb, recorded_at INTO told, told_at
    FROM events WHERE position = of_event;
    IF told ->> 'type' IS DISTINCT FROM 'customer.erased' THEN
        RAISE EXCEPTION 'no erasure is at position %', of_event USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF EXISTS (
        SELECT FROM legal_holds
        WHERE released_at IS NULL
          AND (customer_id IS NULL OR customer_id = (told -> 'payload' ->> 'customer_id')::uuid)
    ) THEN
        RAISE EXCEPTION 'a legal hold stands against it' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    subjects := ARRAY(SELECT jsonb_array_elements_text(told -> 'payload' -> 'subjects')::uuid);
    DELETE FROM sealed_values WHERE subject_id = ANY(subjects);
    -- Who never had a key gets none any more.
    INSERT INTO subject_keys (subject_id, destroyed_at)
    SELECT subject, told_at FROM unnest(subjects) AS of_whom (subject)
    ON CONFLICT (subject_id) DO UPDATE SET wrapped_key = NULL, destroyed_at = EXCLUDED.destroyed_at
    WHERE subject_keys.destroyed_at IS NULL;
END $$;

-- The role has the schema's name. What it could put into a temporary schema must not be taken for the tables.
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION %1$I.erase_subjects(bigint) SET search_path = %1$I, pg_temp', current_schema());
    EXECUTE format('REVOKE EXECUTE ON FUNCTION %1$I.erase_subjects(bigint) FROM PUBLIC', current_schema());
    EXECUTE format('GRANT EXECUTE ON FUNCTION %1$I.erase_subjects(bigint) TO %1$I', current_schema());
END $$;
