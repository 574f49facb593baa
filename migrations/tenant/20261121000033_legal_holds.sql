-- Inline read model of the legal hold aggregate. One stands as long as it was not released.
CREATE TABLE legal_holds (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    -- Null: everybody.
    customer_id uuid,
    -- Nothing from here on is pruned.
    from_position bigint NOT NULL CHECK (from_position > 0),
    reason text NOT NULL,
    placed_at timestamptz NOT NULL,
    released_at timestamptz,
    release_reason text,
    version bigint NOT NULL,
    position bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
-- Those that stand are few, and are asked about before anything is destroyed.
CREATE INDEX legal_holds_standing ON legal_holds (from_position) WHERE released_at IS NULL;
