-- The Merkle tree over the log (RFC 6962), in tiles (C2SP tlog-tiles), and its signed checkpoints.
-- Leaf index = position - 1. What signs them, and what it signed last, is not in this schema.

-- Up to 256 hashes of 32 bytes: of leaves on level 0, above of full tiles. A tile that is not full is the same row
-- growing, so that each narrower one is its prefix.
CREATE TABLE ledger_tiles (
    level smallint NOT NULL CHECK (level >= 0),
    number bigint NOT NULL CHECK (number >= 0),
    hashes bytea NOT NULL CHECK (octet_length(hashes) BETWEEN 32 AND 8192 AND octet_length(hashes) % 32 = 0),
    PRIMARY KEY (level, number)
) WITH (fillfactor = 50);
-- Hashes do not get smaller by compressing them.
ALTER TABLE ledger_tiles ALTER COLUMN hashes SET STORAGE EXTERNAL;

-- How many leaves the tiles hold. Whoever has locked the row extends them.
CREATE TABLE ledger_head (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    size bigint NOT NULL DEFAULT 0 CHECK (size >= 0)
) WITH (fillfactor = 10);
INSERT INTO ledger_head DEFAULT VALUES;

-- Every checkpoint that was signed of this log.
CREATE TABLE ledger_checkpoints (
    size bigint NOT NULL CHECK (size >= 0),
    signed_at timestamptz NOT NULL,
    note text NOT NULL,
    PRIMARY KEY (size, signed_at)
);
CREATE INDEX ledger_checkpoints_time ON ledger_checkpoints (signed_at);

CREATE FUNCTION ledger_tiles_only_grow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.level, NEW.number) IS DISTINCT FROM (OLD.level, OLD.number)
        OR substring(NEW.hashes FROM 1 FOR octet_length(OLD.hashes)) <> OLD.hashes THEN
        RAISE EXCEPTION 'tiles only grow' USING ERRCODE = '42501';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER ledger_tiles_grow BEFORE UPDATE ON ledger_tiles
    FOR EACH ROW EXECUTE FUNCTION ledger_tiles_only_grow();

CREATE FUNCTION ledger_head_only_grows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.size < OLD.size THEN
        RAISE EXCEPTION 'a tree only grows' USING ERRCODE = '42501';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER ledger_head_grows BEFORE UPDATE ON ledger_head
    FOR EACH ROW EXECUTE FUNCTION ledger_head_only_grows();

CREATE FUNCTION ledger_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is kept as it is', TG_TABLE_NAME USING ERRCODE = '42501';
END $$;
CREATE TRIGGER ledger_tiles_kept BEFORE DELETE OR TRUNCATE ON ledger_tiles
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_kept();
CREATE TRIGGER ledger_checkpoints_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_checkpoints
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_kept();
