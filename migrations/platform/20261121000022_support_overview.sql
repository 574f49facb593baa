-- The support requests of all tenants, for the platform's own people: copied from each tenant's read model, after the
-- commit. No read model of this log. Ids, states and times only: why somebody asked, and why they were refused, stays in
-- the tenant's schema.
CREATE TABLE support_overview (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL,
    requested_by uuid NOT NULL,
    minutes integer NOT NULL,
    status text NOT NULL,
    requested_at timestamptz NOT NULL,
    lapses_at timestamptz NOT NULL,
    approved_by uuid,
    approved_at timestamptz,
    open_until timestamptz,
    ended_by uuid,
    ended_side text,
    -- Of the tenant's row: an older one never replaces a newer one.
    version bigint NOT NULL,
    -- In the tenant's log; the highest of a tenant is how far it was followed.
    position bigint NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX support_overview_tenant ON support_overview (tenant_id, position);
CREATE INDEX support_overview_requested_by ON support_overview (requested_by, id);
