-- Guards: what keeps a pool of k from ever having k + 1 overlapping claims, whatever the code does.

CREATE TABLE slot_resources (
    resource_id uuid PRIMARY KEY,
    capacity integer NOT NULL CHECK (capacity > 0)
);

CREATE TABLE slot_claims (
    booking_id uuid PRIMARY KEY,
    resource_id uuid NOT NULL,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    -- Binary order of magnitude of the length: a claim of span s is shorter than 2^s minutes. An overlap query
    -- looks per span only at starts less than 2^s minutes back, so a plain B-tree answers it.
    span smallint NOT NULL GENERATED ALWAYS AS (
        width_bucket(
            extract(epoch FROM ends_at - starts_at)::double precision / 60,
            ARRAY[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072,
                  262144, 524288, 1048576]::double precision[])
    ) STORED,
    unit integer CHECK (unit > 0),
    expires_at timestamptz,
    CONSTRAINT slot_claims_interval CHECK (starts_at < ends_at),
    CONSTRAINT slot_claims_length CHECK (ends_at - starts_at < interval '1048576 minutes')
);
CREATE INDEX slot_claims_overlap ON slot_claims (resource_id, span, starts_at);
CREATE INDEX slot_claims_expiry ON slot_claims (expires_at) WHERE expires_at IS NOT NULL;

-- The spans a resource's claims have ever had: an overlap query probes these only. Rows are never removed.
CREATE TABLE slot_spans (
    resource_id uuid NOT NULL,
    span smallint NOT NULL,
    PRIMARY KEY (resource_id, span)
);

-- Every claim that overlaps an interval of a resource.
CREATE FUNCTION slot_overlaps(of_resource uuid, from_at timestamptz, until_at timestamptz)
RETURNS TABLE (booking_id uuid, starts_at timestamptz, ends_at timestamptz, unit integer, expires_at timestamptz)
LANGUAGE sql STABLE AS $$
    SELECT c.booking_id, c.starts_at, c.ends_at, c.unit, c.expires_at
    FROM slot_spans AS s
    CROSS JOIN LATERAL (
        SELECT * FROM slot_claims
        WHERE slot_claims.resource_id = of_resource
          AND slot_claims.span = s.span
          AND slot_claims.starts_at > from_at - (1 << s.span) * interval '1 minute'
          AND slot_claims.starts_at < until_at
          AND slot_claims.ends_at > from_at
        -- A fence: the spans come first, each a narrow range of the index.
        OFFSET 0
    ) AS c
    WHERE s.resource_id = of_resource
$$;

-- Fires once per statement, after it, under the log's head lock (taken here too, should a writer have forgotten
-- it), so that READ COMMITTED sees every committed claim: exact without an exclusion constraint.
-- The plan is kept for the session, so it must not depend on how small the tables were when it was made.
CREATE FUNCTION slot_claims_guard() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_bitmapscan = off AS $$
DECLARE
    n record;
    peak integer;
BEGIN
    PERFORM 1 FROM log_head FOR UPDATE;
    INSERT INTO slot_spans SELECT DISTINCT resource_id, span FROM changed ON CONFLICT DO NOTHING;
    -- Only where more claims touch the interval than units exist, or one is on the same unit, is there more to ask.
    FOR n IN
        SELECT c.*, r.capacity, o.on_unit
        FROM changed AS c
        LEFT JOIN slot_resources AS r USING (resource_id)
        CROSS JOIN LATERAL (
            SELECT count(*) AS overlapping, count(*) FILTER (WHERE x.unit = c.unit) AS on_unit
            FROM slot_spans AS s
            CROSS JOIN LATERAL (
                SELECT slot_claims.unit FROM slot_claims
                WHERE slot_claims.resource_id = c.resource_id
                  AND slot_claims.span = s.span
                  AND slot_claims.starts_at > c.starts_at - (1 << s.span) * interval '1 minute'
                  AND slot_claims.starts_at < c.ends_at
                  AND slot_claims.ends_at > c.starts_at
                -- A fence: the spans come first, each a narrow range of the index.
                OFFSET 0
            ) AS x
            WHERE s.resource_id = c.resource_id
        ) AS o
        WHERE r.capacity IS NULL OR c.unit > r.capacity OR o.on_unit > 1 OR o.overlapping > r.capacity
    LOOP
        IF n.capacity IS NULL OR n.unit > n.capacity THEN
            RAISE EXCEPTION 'claim on an unknown resource or unit'
                USING ERRCODE = '23503', CONSTRAINT = 'slot_claims_resource';
        END IF;
        IF n.on_unit > 1 THEN
            RAISE EXCEPTION 'two claims on one unit' USING ERRCODE = '23P01', CONSTRAINT = 'slot_claims_no_overlap';
        END IF;
        SELECT max(level) INTO peak FROM (
            SELECT sum(step) OVER (ORDER BY at, step) AS level FROM (
                SELECT greatest(o.starts_at, n.starts_at) AS at, 1 AS step
                    FROM slot_overlaps(n.resource_id, n.starts_at, n.ends_at) o
                UNION ALL
                SELECT o.ends_at, -1
                    FROM slot_overlaps(n.resource_id, n.starts_at, n.ends_at) o
            ) AS steps
        ) AS levels;
        IF peak > n.capacity THEN
            RAISE EXCEPTION 'more overlapping claims than units'
                USING ERRCODE = '23P01', CONSTRAINT = 'slot_claims_no_overlap';
        END IF;
    END LOOP;
    RETURN NULL;
END $$;
CREATE TRIGGER slot_claims_inserted AFTER INSERT ON slot_claims
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION slot_claims_guard();
CREATE TRIGGER slot_claims_updated AFTER UPDATE ON slot_claims
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION slot_claims_guard();

-- Shrinking a pool must not strand what is already taken: the decision refuses it, this makes sure.
CREATE FUNCTION slot_resources_guard() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    peak integer;
BEGIN
    PERFORM 1 FROM log_head FOR UPDATE;
    SELECT max(level) INTO peak FROM (
        SELECT sum(step) OVER (ORDER BY at, step) AS level FROM (
            SELECT starts_at AS at, 1 AS step FROM slot_claims WHERE resource_id = NEW.resource_id AND ends_at > now()
            UNION ALL
            SELECT ends_at, -1 FROM slot_claims WHERE resource_id = NEW.resource_id AND ends_at > now()
        ) AS steps
    ) AS levels;
    IF peak > NEW.capacity THEN
        RAISE EXCEPTION 'more overlapping claims than units'
            USING ERRCODE = '23P01', CONSTRAINT = 'slot_claims_no_overlap';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER slot_resources_shrunk AFTER UPDATE OF capacity ON slot_resources
    FOR EACH ROW WHEN (NEW.capacity < OLD.capacity) EXECUTE FUNCTION slot_resources_guard();

-- Inline read models: written in the transaction of the events they come from.

CREATE TABLE resources (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    kind text NOT NULL,
    capacity integer NOT NULL,
    time_zone text NOT NULL,
    archived boolean NOT NULL,
    version bigint NOT NULL,
    position bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);

CREATE TABLE offerings (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    mode text NOT NULL,
    resource_ids uuid[] NOT NULL,
    terms jsonb NOT NULL,
    archived boolean NOT NULL,
    version bigint NOT NULL,
    position bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);

CREATE TABLE schedules (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    resource_ids uuid[] NOT NULL,
    rules jsonb NOT NULL,
    archived boolean NOT NULL,
    version bigint NOT NULL,
    position bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX schedules_of_resource ON schedules USING gin (resource_ids) WHERE NOT archived;

CREATE TABLE customers (
    id uuid PRIMARY KEY,
    name text,
    email text,
    phone text,
    archived boolean NOT NULL,
    version bigint NOT NULL,
    position bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);

CREATE TABLE bookings (
    id uuid PRIMARY KEY,
    offering_id uuid NOT NULL,
    resource_id uuid NOT NULL,
    unit integer,
    customer_id uuid NOT NULL,
    status text NOT NULL,
    mode text NOT NULL,
    check_in date,
    check_out date,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    time_zone text NOT NULL,
    guests integer NOT NULL,
    price_amount bigint NOT NULL,
    currency text NOT NULL,
    fee_amount bigint,
    policy jsonb NOT NULL,
    notes text,
    hold_expires_at timestamptz,
    version bigint NOT NULL,
    position bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
) WITH (fillfactor = 85);
CREATE INDEX bookings_of_resource ON bookings (resource_id, starts_at);
CREATE INDEX bookings_of_customer ON bookings (customer_id, id);
-- No index on the status: without one, a booking that only changes its status is updated in its page (HOT).
