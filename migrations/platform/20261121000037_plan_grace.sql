-- The plans a tenant left not long ago: after a move to a smaller one, the longer history stays for a while.
ALTER TABLE tenants ADD COLUMN ended_plans jsonb NOT NULL DEFAULT '[]';
