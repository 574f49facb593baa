-- Accounts: of a tenant's people in its schema, of the platform's in the platform's.

-- Inline read models of the user aggregate. An address is empty once the account is gone.
CREATE TABLE users (
    id uuid PRIMARY KEY,
    email text,
    -- The address as it is compared: in lower case.
    email_key text,
    name text,
    tier text NOT NULL,
    role_id uuid,
    modules text[] NOT NULL,
    assigned uuid[] NOT NULL,
    customer_id uuid,
    status text NOT NULL,
    invited_until timestamptz,
    version bigint NOT NULL,
    position bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX users_by_email ON users (email_key) WHERE status <> 'deleted';
CREATE INDEX users_by_tier ON users (tier, status);
CREATE INDEX users_by_role ON users (role_id) WHERE role_id IS NOT NULL;

-- Sessions that have not ended.
CREATE TABLE user_sessions (
    session_id uuid PRIMARY KEY,
    user_id uuid NOT NULL,
    started_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX user_sessions_of ON user_sessions (user_id);

-- Inline read model of the role aggregate; the platform has none.
CREATE TABLE roles (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    permissions text[] NOT NULL,
    archived boolean NOT NULL,
    version bigint NOT NULL,
    position bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);

-- Credentials. Not read models: nothing of them is in the log, and a replay does not touch them.

CREATE TABLE user_passwords (
    user_id uuid PRIMARY KEY,
    hash text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
);

-- Each refresh token by its SHA-256. The successor of a used one is made again from the token and the salt, so that
-- a client whose answer was lost gets the same one.
CREATE TABLE refresh_tokens (
    token_hash bytea PRIMARY KEY,
    session_id uuid NOT NULL,
    user_id uuid NOT NULL,
    issued_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    successor_salt bytea,
    ip text,
    user_agent text
);
CREATE INDEX refresh_tokens_of_session ON refresh_tokens (session_id, issued_at DESC);
CREATE INDEX refresh_tokens_expiry ON refresh_tokens (expires_at);

-- The open code of six digits of an account. Asking again within its time replaces the code, not the attempts.
CREATE TABLE reset_codes (
    user_id uuid PRIMARY KEY,
    reset_id uuid NOT NULL,
    code_hash text NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    attempts_since timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);

-- Addresses an account has signed in from: a lock-out by others never holds for them.
CREATE TABLE known_addresses (
    user_id uuid NOT NULL,
    ip text NOT NULL,
    last_seen timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, ip)
);
