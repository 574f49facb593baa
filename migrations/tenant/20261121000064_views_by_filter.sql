-- What the views for auditors are filtered by: every filter reads its page from an index of its own, newest first. The
-- indexes by time are in an order that only a list reads which nothing but time narrows (projections/src/newest.rs).
DROP INDEX api_calls_by_time;
CREATE INDEX api_calls_by_time ON api_calls (at NULLS FIRST, request_id NULLS FIRST);

DROP INDEX request_errors_by_time;
CREATE INDEX request_errors_by_time ON request_errors (at NULLS FIRST, request_id NULLS FIRST);
CREATE INDEX request_errors_by_code ON request_errors (code, at, request_id);

DROP INDEX refused_logins_by_time;
CREATE INDEX refused_logins_by_time ON refused_logins (at NULLS FIRST, request_id NULLS FIRST);
CREATE INDEX refused_logins_by_kind ON refused_logins (kind, at, request_id);
CREATE INDEX refused_logins_by_outcome ON refused_logins (outcome, at, request_id);

-- Rebuilds clone these two, so indexes keep their default names.
DROP INDEX login_events_recorded_at_event_id_idx;
CREATE INDEX ON login_events (recorded_at NULLS FIRST, event_id NULLS FIRST);
DROP INDEX booking_history_position_idx;
CREATE INDEX ON booking_history ((position + 0));

-- Those that were refused never began, and are a list of their own.
CREATE INDEX support_sessions_by_time ON support_sessions (started_at NULLS FIRST, id NULLS FIRST);
CREATE INDEX support_sessions_begun ON support_sessions (started_at, id) WHERE refused IS NULL;
CREATE INDEX support_sessions_refused ON support_sessions (started_at, id) WHERE refused IS NOT NULL;
CREATE INDEX support_sessions_by_user ON support_sessions (user_id, started_at, id);
CREATE INDEX support_sessions_within ON support_sessions (support_request_id, started_at, id)
    WHERE support_request_id IS NOT NULL;
-- Nothing was read by these in their order; the new ones begin with the same columns.
DROP INDEX support_sessions_by;
DROP INDEX support_sessions_in;
