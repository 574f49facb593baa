-- Inline read model of the permission grant aggregate. Whether one is active is asked of the clock, not kept.
CREATE TABLE permission_grants (
    id uuid PRIMARY KEY,
    -- Null: the operator.
    grantor uuid,
    grantee uuid NOT NULL,
    permission text NOT NULL,
    reason text NOT NULL,
    granted_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    revoked boolean NOT NULL,
    revoked_by uuid,
    revoked_reason text,
    version bigint NOT NULL,
    position bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
-- What somebody was granted and still has is looked up with who they are, again and again.
CREATE INDEX permission_grants_live ON permission_grants (grantee, expires_at) WHERE NOT revoked;
CREATE INDEX permission_grants_of ON permission_grants (grantee, id);
CREATE INDEX permission_grants_by ON permission_grants (grantor, id);
