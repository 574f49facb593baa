-- Inline read model of the support_request aggregate. What time alone ends (a request that lapsed, a window that is over)
-- is no column: whoever reads compares the times with the database's clock.
CREATE TABLE support_requests (
    id uuid PRIMARY KEY,
    -- An account of the platform.
    requested_by uuid NOT NULL,
    reason text NOT NULL,
    minutes integer NOT NULL,
    status text NOT NULL CHECK (status IN ('requested', 'approved', 'denied', 'revoked')),
    requested_at timestamptz NOT NULL,
    lapses_at timestamptz NOT NULL,
    approved_by uuid,
    approved_at timestamptz,
    open_until timestamptz,
    ended_by uuid,
    ended_side text CHECK (ended_side IN ('tenant', 'platform', 'operator')),
    ended_reason text,
    version bigint NOT NULL,
    position bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
-- The platform's overview follows by position.
CREATE INDEX support_requests_position ON support_requests (position);
