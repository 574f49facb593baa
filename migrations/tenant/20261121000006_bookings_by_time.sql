-- The bookings of a week, say, without looking at all the others. As with claims, bookings are classed by how long they
-- are, so that those which reach into a window began in a narrow range of the index, per class. Times are not in the
-- order of the rows, so a block range index would tell nothing apart; an index on a range type costs several times this.
-- Whatever does not change the times, a new status above all, still updates a booking in its page (HOT).

-- The classes: 1 night and less, 3, 7, 15, 31, more, each with room for a change of the clock.
CREATE FUNCTION booking_length_class(starts_at timestamptz, ends_at timestamptz) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN ends_at - starts_at < interval '36 hours' THEN 0
        WHEN ends_at - starts_at < interval '84 hours' THEN 1
        WHEN ends_at - starts_at < interval '180 hours' THEN 2
        WHEN ends_at - starts_at < interval '372 hours' THEN 3
        WHEN ends_at - starts_at < interval '756 hours' THEN 4
        ELSE 5
    END
$$;
CREATE INDEX bookings_by_time ON bookings (booking_length_class(starts_at, ends_at), starts_at);
