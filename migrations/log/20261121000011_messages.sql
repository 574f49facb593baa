-- Mail on its way: written in the transaction of what it tells of, sent afterwards by a worker of any node.
CREATE TABLE messages (
    id uuid PRIMARY KEY,
    kind text NOT NULL,
    recipient text NOT NULL, -- personal
    user_id uuid,
    subject text NOT NULL,
    status text NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'sent', 'failed')),
    attempts integer NOT NULL DEFAULT 0,
    -- While a node sends it, the time at which another may try.
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    -- A class such as smtp_transient, never a server's own text, which may quote the recipient or the body.
    last_error text,
    -- Bodies hold links and codes that let people in: sealed, and gone once they are sent or given up.
    sealed_body text,
    created_at timestamptz NOT NULL DEFAULT now(),
    sent_at timestamptz,
    CHECK ((status = 'queued') = (sealed_body IS NOT NULL)),
    CHECK ((status = 'sent') = (sent_at IS NOT NULL))
);
CREATE INDEX messages_due ON messages (next_attempt_at) WHERE status = 'queued';
CREATE INDEX messages_user ON messages (user_id) WHERE user_id IS NOT NULL;
