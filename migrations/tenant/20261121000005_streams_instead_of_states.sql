-- What a booking contributed to the read models so far is folded from its own events; it is not kept beside them
-- any more. No release was made that reads these tables, so that they go at once.
DROP TABLE calendar_bookings;
DROP TABLE pace_bookings;
DROP TABLE booking_history_state;
