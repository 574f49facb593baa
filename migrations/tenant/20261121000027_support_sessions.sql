-- Inline read model of the support session aggregate. What time alone ends is no column: whoever reads compares `until`
-- with the database's clock.
CREATE TABLE support_sessions (
    id uuid PRIMARY KEY,
    -- An account of the platform, and a sign-in of it.
    user_id uuid NOT NULL,
    signed_in uuid NOT NULL,
    mode text NOT NULL CHECK (mode IN ('mock', 'redacted', 'real')),
    support_request_id uuid,
    reason text NOT NULL,
    started_at timestamptz NOT NULL,
    until timestamptz NOT NULL,
    -- Why it was refused; then it never began.
    refused text,
    end_cause text CHECK (end_cause IN ('stopped', 'expired', 'window_closed', 'no_longer_allowed')),
    ended_at timestamptz,
    ended_by uuid,
    ended_side text CHECK (ended_side IN ('tenant', 'platform', 'operator')),
    viewed integer NOT NULL,
    denied integer NOT NULL,
    version bigint NOT NULL,
    position bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX support_sessions_position ON support_sessions (position);
CREATE INDEX support_sessions_by ON support_sessions (user_id, id);
CREATE INDEX support_sessions_in ON support_sessions (support_request_id, id) WHERE support_request_id IS NOT NULL;
CREATE INDEX support_sessions_open ON support_sessions (until) WHERE refused IS NULL AND ended_at IS NULL;
-- A person asks for the requests they made.
CREATE INDEX support_requests_by ON support_requests (requested_by, id);
