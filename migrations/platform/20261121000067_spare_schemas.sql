-- Schemas made before there is a tenant for them. One that is taken is renamed to its tenant's.
CREATE TABLE spare_schemas (
    -- The schema and its role are named as if this were a tenant's id.
    id uuid PRIMARY KEY,
    schema_version bigint NOT NULL,
    checksum bytea NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now()
);
