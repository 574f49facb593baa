-- What the views for auditors are filtered by: every filter reads its page from an index of its own, newest first. The
-- index by time is in an order that only a list reads which nothing but time narrows (projections/src/newest.rs).
DROP INDEX messages_by_time;
CREATE INDEX messages_by_time ON messages (created_at NULLS FIRST, id NULLS FIRST);
CREATE INDEX messages_by_kind ON messages (kind, created_at, id);
CREATE INDEX messages_by_status ON messages (status, created_at, id);

-- Those that were refused never began, and are a list of their own.
CREATE INDEX hijacks_by_time ON hijacks (started_at NULLS FIRST, id NULLS FIRST);
CREATE INDEX hijacks_begun ON hijacks (started_at, id) WHERE refused IS NULL;
CREATE INDEX hijacks_refused ON hijacks (started_at, id) WHERE refused IS NOT NULL;
CREATE INDEX hijacks_by_hijacker ON hijacks (hijacker, started_at, id);
CREATE INDEX hijacks_within ON hijacks (support_request_id, started_at, id) WHERE support_request_id IS NOT NULL;
-- Nothing was read by it in its order; the new one begins with the same column.
DROP INDEX hijacks_by;
