-- Every host that a tenant claims, proved or not; those that are proved are in tenant_domains too.
CREATE TABLE domain_claims (
    domain_id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL,
    hostname text NOT NULL,
    token text NOT NULL,
    claimed_at timestamptz NOT NULL,
    verified_at timestamptz,
    primary_domain boolean NOT NULL
);
CREATE INDEX domain_claims_tenant ON domain_claims (tenant_id, domain_id);

-- When the proof of a domain was last looked for, and how many times in a row it was not there. No read model: the log
-- hears of it only when the proof is given up.
CREATE TABLE domain_checks (
    domain_id uuid PRIMARY KEY,
    checked_at timestamptz NOT NULL,
    missing integer NOT NULL DEFAULT 0
);
