-- To whom a message goes is sealed as its body is, and bound to its row. Rows from before hold it in the clear until the
-- next round of retention seals them.
ALTER TABLE messages ALTER COLUMN recipient DROP NOT NULL;
ALTER TABLE messages ADD COLUMN sealed_recipient text;
-- A keyed hash of the address: by it an erasure finds what went to somebody without an account.
ALTER TABLE messages ADD COLUMN recipient_hash bytea;
ALTER TABLE messages ADD CONSTRAINT messages_recipient_once CHECK (recipient IS NULL OR sealed_recipient IS NULL);

CREATE INDEX messages_by_time ON messages (created_at, id);
CREATE INDEX messages_by_user ON messages (user_id, created_at, id) WHERE user_id IS NOT NULL;
CREATE INDEX messages_by_recipient ON messages (recipient_hash) WHERE recipient_hash IS NOT NULL;
CREATE INDEX messages_in_the_clear ON messages (id) WHERE recipient IS NOT NULL;
DROP INDEX messages_user;
