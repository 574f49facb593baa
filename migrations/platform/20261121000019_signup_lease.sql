-- Who confirms a sign-up holds it for a while: of two confirmations, on any node, one makes the tenant.
ALTER TABLE signups ADD COLUMN confirming_until timestamptz;
