-- Calls made with API keys: an access log beside the log of events, in partitions of a month, which are dropped whole.
CREATE TABLE api_calls (
    at timestamptz NOT NULL,
    request_id uuid NOT NULL,
    api_key_id uuid NOT NULL,
    method text NOT NULL,
    -- The route's template: never the path itself, and no query.
    route text NOT NULL,
    status integer NOT NULL,
    latency_us integer NOT NULL
) PARTITION BY RANGE (at);
CREATE INDEX api_calls_by_time ON api_calls (at, request_id);
CREATE INDEX api_calls_by_key ON api_calls (api_key_id, at, request_id);

-- The schema's role may add rows and months, but owns neither: what it has written it cannot drop.
CREATE FUNCTION ensure_api_calls_partition(month date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT SET timezone = 'UTC' AS $$
DECLARE
    first date := date_trunc('month', month::timestamp)::date;
    partition text := 'api_calls_' || to_char(first, 'YYYYMM');
BEGIN
    IF first < (now() - interval '2 months')::date OR first > now() + interval '2 months' THEN
        RAISE EXCEPTION 'no calls were made in %', first USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- Making one locks the table, also where it is there already.
    IF to_regclass(format('%I.%I', current_schema(), partition)) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format(
        'CREATE TABLE %1$I.%2$I PARTITION OF %1$I.api_calls FOR VALUES FROM (%3$L) TO (%4$L)',
        current_schema(), partition, first, (first + interval '1 month')::date
    );
EXCEPTION
    -- Another node was faster.
    WHEN duplicate_table OR unique_violation THEN NULL;
END $$;

-- The role has the schema's name.
DO $$ BEGIN
    EXECUTE format('REVOKE EXECUTE ON FUNCTION %1$I.ensure_api_calls_partition(date) FROM PUBLIC', current_schema());
    EXECUTE format('GRANT EXECUTE ON FUNCTION %1$I.ensure_api_calls_partition(date) TO %1$I', current_schema());
END $$;
