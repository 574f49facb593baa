-- The support sessions and hijacks of all tenants, and the hijacks of the platform's own log, for the platform's own
-- people: copied from each log's read models, after the commit. No read model of this log. Ids, states and times only.
CREATE TABLE masquerade_overview (
    id uuid PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('support_session', 'hijack')),
    -- Null: the platform's own log.
    tenant_id uuid,
    -- The platform's account that was let in, or would have been.
    user_id uuid NOT NULL,
    -- Whom they acted as, in a hijack.
    target uuid,
    -- The mode of a session, or by what a hijack was allowed.
    how text NOT NULL,
    support_request_id uuid,
    started_at timestamptz NOT NULL,
    until timestamptz NOT NULL,
    refused text,
    end_cause text,
    ended_at timestamptz,
    ended_by uuid,
    ended_side text,
    viewed integer NOT NULL,
    denied integer NOT NULL,
    -- Of the row that was copied: an older one never replaces a newer one.
    version bigint NOT NULL,
    -- In the log it is of; the highest of a kind and a log is how far that was followed.
    position bigint NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX masquerade_overview_followed ON masquerade_overview (tenant_id, kind, position);
CREATE INDEX masquerade_overview_by ON masquerade_overview (user_id, kind, id);
CREATE INDEX masquerade_overview_kind ON masquerade_overview (kind, id);
