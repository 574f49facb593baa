-- Read models that follow the log (see projections/). Rebuilds clone these tables with LIKE … INCLUDING ALL into a
-- schema beside this one and switch, so: no foreign keys, no triggers, and indexes keep their default names.

-- Calendar: how full each resource is on each local date.
CREATE TABLE calendar_resources (
    resource_id uuid PRIMARY KEY,
    capacity integer NOT NULL,
    archived boolean NOT NULL
);

-- What each booking contributes to the days now, so that its next event can take that back.
CREATE TABLE calendar_bookings (
    booking_id uuid PRIMARY KEY,
    resource_id uuid NOT NULL,
    standing text NOT NULL CHECK (standing IN ('booked', 'cancelled', 'no_show', 'void')),
    by_nights boolean NOT NULL,
    time_zone text NOT NULL,
    arrival date NOT NULL,
    departure date NOT NULL,
    -- The first date that is not booked any more.
    booked_until date NOT NULL
);

CREATE TABLE calendar_days (
    resource_id uuid NOT NULL,
    day date NOT NULL,
    booked integer NOT NULL,
    arrivals integer NOT NULL,
    departures integer NOT NULL,
    no_shows integer NOT NULL,
    cancellations integer NOT NULL,
    PRIMARY KEY (resource_id, day)
);

-- Booking history: every change of a booking as a diff.
CREATE TABLE booking_history (
    booking_id uuid NOT NULL,
    sequence bigint NOT NULL,
    position bigint NOT NULL,
    event_type text NOT NULL,
    recorded_at timestamptz NOT NULL,
    occurred_at timestamptz NOT NULL,
    actor text NOT NULL,
    on_behalf_of text,
    reason text,
    source text,
    -- [{path, old, new}], personal values in the clear: they stay inside this schema.
    changes jsonb NOT NULL,
    PRIMARY KEY (booking_id, sequence)
);

CREATE TABLE booking_history_state (
    booking_id uuid PRIMARY KEY,
    sequence bigint NOT NULL,
    state jsonb NOT NULL
);

-- Pace: what is on the books per date of arrival, by how long before it was booked.
CREATE TABLE pace_bookings (
    booking_id uuid PRIMARY KEY,
    booked_on date NOT NULL,
    standing text NOT NULL CHECK (standing IN ('open', 'on_books', 'cancelled', 'no_show', 'void')),
    arrival date NOT NULL,
    nights integer NOT NULL,
    currency text NOT NULL,
    amount bigint NOT NULL
);

CREATE TABLE pace (
    arrival date NOT NULL,
    -- The least days of lead time of the bucket; the next bucket begins where it ends.
    lead_from integer NOT NULL,
    currency text NOT NULL,
    bookings bigint NOT NULL,
    nights bigint NOT NULL,
    revenue bigint NOT NULL,
    cancelled_bookings bigint NOT NULL,
    cancelled_nights bigint NOT NULL,
    no_shows bigint NOT NULL,
    no_show_nights bigint NOT NULL,
    PRIMARY KEY (arrival, lead_from, currency)
);
