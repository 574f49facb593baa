-- Inline read model of the lead aggregate.
CREATE TABLE leads (
    id uuid PRIMARY KEY,
    -- Personal, each null once erased; the contacts and the message also where none was given.
    name text,
    email text,
    phone text,
    message text,
    offering_id uuid,
    handled boolean NOT NULL,
    version bigint NOT NULL,
    position bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
-- What waits is looked for every day, and is little beside what has been handled.
CREATE INDEX leads_waiting ON leads (id) WHERE NOT handled;
