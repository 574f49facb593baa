-- The host names that a tenant has proved to be its own: pages there may call the API from a browser.
CREATE TABLE tenant_domains (
    hostname text PRIMARY KEY CHECK (hostname = lower(hostname)),
    tenant_id uuid NOT NULL,
    domain_id uuid NOT NULL,
    verified_at timestamptz NOT NULL
);
CREATE INDEX tenant_domains_tenant ON tenant_domains (tenant_id);
