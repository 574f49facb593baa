-- A snapshot goes with the rows of what ended and was pruned; those that were left behind go now.
DELETE FROM snapshots n
WHERE NOT EXISTS (
    SELECT FROM streams s WHERE s.aggregate_id = n.aggregate_id AND s.aggregate_type = n.aggregate_type);
