-- Which tenant an API key is of: looked up by the key's public prefix, before its tenant's schema can be entered.
-- Whether the key works is decided there.
CREATE TABLE api_key_prefixes (
    prefix text PRIMARY KEY,
    tenant_id uuid NOT NULL
);

-- Sign-ups that wait for their e-mail address to be confirmed.
CREATE TABLE signups (
    id uuid PRIMARY KEY,
    sealed_payload text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX signups_expiry ON signups (expires_at);

-- Accounts and API keys have taken the place of bootstrap tokens.
DROP TABLE bootstrap_tokens;
