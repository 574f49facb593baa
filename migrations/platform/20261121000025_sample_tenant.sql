-- Which tenant is the sample tenant: one row. A reset makes another tenant and then changes the row, as logs are only
-- ever added to.
CREATE TABLE sample_tenant (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    tenant_id uuid,
    made_at timestamptz,
    -- The date that what is in it was made around.
    day date,
    -- Who makes the next one has it for a while: the tenant's id to be, and until when nobody else makes one.
    making uuid,
    making_until timestamptz,
    -- The one before, until it has been switched off.
    retiring uuid
);
INSERT INTO sample_tenant (only_row) VALUES (true);
