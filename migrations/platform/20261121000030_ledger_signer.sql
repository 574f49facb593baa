-- What the signer of the ledgers remembers, out of reach of the tenants' roles, and the log of all their heads.

-- The last checkpoint of each log. `seal` is an HMAC over the rest of the row, under a key of the keys file: a row that
-- was edited, exchanged or made here is refused, and so is one that is missing although its log was signed before.
CREATE TABLE ledger_signer (
    origin text PRIMARY KEY,
    -- The tenant; the nil UUID: the platform's own log; the highest UUID: the log of heads.
    log_id uuid NOT NULL UNIQUE,
    size bigint NOT NULL CHECK (size >= 0),
    root bytea NOT NULL CHECK (octet_length(root) = 32),
    note text NOT NULL,
    signed_at timestamptz NOT NULL,
    seal bytea NOT NULL
) WITH (fillfactor = 50);

-- The public halves of all keys that ever signed, sealed likewise: nobody else's key may get in among them.
CREATE TABLE ledger_verifier_keys (
    origin text NOT NULL,
    -- The key's id in the keys file.
    key_id text NOT NULL,
    vkey text NOT NULL,
    first_used_at timestamptz NOT NULL,
    seal bytea NOT NULL,
    PRIMARY KEY (origin, key_id)
);

-- The heads of all logs once a minute: an entry names how many there are and the root of a tree over them, and is
-- itself a leaf of a log with tiles and checkpoints. The heads themselves, gzipped, go after a while.
CREATE TABLE head_log_entries (
    index bigint PRIMARY KEY CHECK (index >= 0),
    at timestamptz NOT NULL,
    entry bytea NOT NULL,
    heads bytea
);
ALTER TABLE head_log_entries ALTER COLUMN heads SET STORAGE EXTERNAL;
CREATE INDEX head_log_entries_with_heads ON head_log_entries (at) WHERE heads IS NOT NULL;

CREATE TABLE head_log_tiles (
    level smallint NOT NULL CHECK (level >= 0),
    number bigint NOT NULL CHECK (number >= 0),
    hashes bytea NOT NULL CHECK (octet_length(hashes) BETWEEN 32 AND 8192 AND octet_length(hashes) % 32 = 0),
    PRIMARY KEY (level, number)
) WITH (fillfactor = 50);
ALTER TABLE head_log_tiles ALTER COLUMN hashes SET STORAGE EXTERNAL;

-- The platform's own schema has the log's functions.
CREATE TRIGGER head_log_tiles_grow BEFORE UPDATE ON head_log_tiles
    FOR EACH ROW EXECUTE FUNCTION ledger_tiles_only_grow();
CREATE TRIGGER head_log_tiles_kept BEFORE DELETE OR TRUNCATE ON head_log_tiles
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_kept();
CREATE TRIGGER ledger_verifier_keys_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_verifier_keys
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_kept();
CREATE TRIGGER ledger_signer_kept BEFORE DELETE OR TRUNCATE ON ledger_signer
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_kept();
CREATE TRIGGER head_log_entries_kept BEFORE DELETE OR TRUNCATE ON head_log_entries
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_kept();
