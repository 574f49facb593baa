-- Beside the log of events, like the calls with API keys, in partitions of a month that are dropped whole: what changed
-- nothing, and what anybody may cause without an account. Rows are few however often it happens: `times` says for how many.

-- Sign-ins and new passwords that were refused. Those that succeeded are events.
CREATE TABLE refused_logins (
    at timestamptz NOT NULL,
    request_id uuid NOT NULL,
    -- What was tried: sign_in, password_reset.
    kind text NOT NULL,
    -- failed, locked_out.
    outcome text NOT NULL,
    -- The account, where there is one; never what was typed in its place.
    user_id uuid,
    ip text,
    user_agent text,
    times integer NOT NULL CHECK (times > 0)
) PARTITION BY RANGE (at);
CREATE INDEX refused_logins_by_time ON refused_logins (at, request_id);
CREATE INDEX refused_logins_by_user ON refused_logins (user_id, at, request_id) WHERE user_id IS NOT NULL;
CREATE INDEX refused_logins_by_ip ON refused_logins (ip, at, request_id) WHERE ip IS NOT NULL;

-- Requests that failed, and refusals that matter.
CREATE TABLE request_errors (
    at timestamptz NOT NULL,
    request_id uuid NOT NULL,
    method text NOT NULL,
    -- The route's template: never the path itself, and no query.
    route text NOT NULL,
    status integer NOT NULL,
    code text NOT NULL,
    -- Whoever asked, as events name them; nobody who is known when null.
    actor text,
    on_behalf_of text,
    times integer NOT NULL CHECK (times > 0)
) PARTITION BY RANGE (at);
CREATE INDEX request_errors_by_time ON request_errors (at, request_id);
CREATE INDEX request_errors_by_actor ON request_errors (actor, at, request_id) WHERE actor IS NOT NULL;
CREATE INDEX request_errors_by_status ON request_errors (status, at, request_id);

-- The schema's role may add rows and months, but owns neither: what it has written it cannot drop.
CREATE FUNCTION ensure_month(log text, month date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET timezone = 'UTC' AS $$
DECLARE
    first date := date_trunc('month', month::timestamp)::date;
    partition text := log || '_' || to_char(first, 'YYYYMM');
BEGIN
    IF log NOT IN ('api_calls', 'refused_logins', 'request_errors') THEN
        RAISE EXCEPTION '% is not kept by months', log USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF first < (now() - interval '2 months')::date OR first > now() + interval '2 months' THEN
        RAISE EXCEPTION 'nothing is written down in %', first USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- Making one locks the table, also where it is there already.
    IF to_regclass(format('%I.%I', current_schema(), partition)) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format(
        'CREATE TABLE %1$I.%2$I PARTITION OF %1$I.%3$I FOR VALUES FROM (%4$L) TO (%5$L)',
        current_schema(), partition, log, first, (first + interval '1 month')::date
    );
EXCEPTION
    -- Another node was faster.
    WHEN duplicate_table OR unique_violation THEN NULL;
END $$;

-- The role has the schema's name. What it could put into a temporary schema must not be taken for the tables.
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION %1$I.ensure_month(text, date) SET search_path = %1$I, pg_temp', current_schema());
    EXECUTE format('REVOKE EXECUTE ON FUNCTION %1$I.ensure_month(text, date) FROM PUBLIC', current_schema());
    EXECUTE format('GRANT EXECUTE ON FUNCTION %1$I.ensure_month(text, date) TO %1$I', current_schema());
END $$;
