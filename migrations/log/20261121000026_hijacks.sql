-- Inline read model of the hijack aggregate: in a tenant's schema those of its people, in the platform's those of the
-- platform's people. What time alone ends is no column: whoever reads compares `until` with the database's clock.
CREATE TABLE hijacks (
    id uuid PRIMARY KEY,
    hijacker uuid,
    hijacker_side text NOT NULL CHECK (hijacker_side IN ('tenant', 'platform', 'operator')),
    signed_in uuid NOT NULL,
    target uuid NOT NULL,
    via text NOT NULL CHECK (via IN ('tier', 'temporary_tenant', 'waiver', 'window')),
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
CREATE INDEX hijacks_position ON hijacks (position);
CREATE INDEX hijacks_by ON hijacks (hijacker, id);
CREATE INDEX hijacks_of ON hijacks (target, id);
-- Those that have not been said to be over: few at any time.
CREATE INDEX hijacks_open ON hijacks (until) WHERE refused IS NULL AND ended_at IS NULL;
