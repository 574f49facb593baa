-- Read models that follow the log, for auditors. Rebuilds clone them, so indexes keep their default names.

-- Sign-ins, sign-outs, ends of sessions, new passwords.
CREATE TABLE login_events (
    position bigint PRIMARY KEY,
    event_id uuid NOT NULL,
    recorded_at timestamptz NOT NULL,
    user_id uuid NOT NULL,
    -- sign_in, sign_out, session_end, password_change, password_reset, reset_request.
    kind text NOT NULL,
    -- By which means, or why.
    how text,
    session_id uuid,
    actor text NOT NULL,
    on_behalf_of text,
    ip text, -- personal
    user_agent text, -- personal
    request_id uuid
);
CREATE INDEX ON login_events (recorded_at, event_id);
CREATE INDEX ON login_events (user_id, recorded_at, event_id);
CREATE INDEX ON login_events (kind, recorded_at, event_id);
CREATE INDEX ON login_events (ip, recorded_at, event_id);

-- The history of all bookings, by who changed them and where they are. Where a booking was moved from and to is found by
-- either resource.
ALTER TABLE booking_history ADD COLUMN resource_id uuid, ADD COLUMN left_resource_id uuid;
UPDATE booking_history AS h
SET resource_id = found.resource_id, left_resource_id = found.left_resource_id
FROM (
    SELECT booking_id, sequence, left_resource_id,
           -- One row of each run says where the booking is in all of them.
           max(moved_to) OVER (PARTITION BY booking_id, run)::uuid AS resource_id
    FROM (
        SELECT booking_id, sequence, (move ->> 'new') AS moved_to, (move ->> 'old')::uuid AS left_resource_id,
               count(move) OVER (PARTITION BY booking_id ORDER BY sequence) AS run
        FROM (
            SELECT booking_id, sequence,
                   jsonb_path_query_first(changes, '$[*] ? (@.path == "/resource_id")') AS move
            FROM booking_history
        ) AS moves
    ) AS runs
) AS found
WHERE h.booking_id = found.booking_id AND h.sequence = found.sequence;
CREATE INDEX ON booking_history (position);
CREATE INDEX ON booking_history (actor, position);
CREATE INDEX ON booking_history (event_type, position);
CREATE INDEX ON booking_history (resource_id, position);
CREATE INDEX ON booking_history (left_resource_id, position) WHERE left_resource_id IS NOT NULL;
