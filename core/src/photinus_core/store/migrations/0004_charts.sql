-- min code: 3
-- Counts over time, and filters by time, read the rows of a span in its order. Rows come nearly in the order of their
-- times, so that each index grows at its end; the block range indexes have nothing left to do.

CREATE INDEX messages_charted ON messages (namespace, created, type);
CREATE INDEX transactions_charted ON transactions (namespace, created, type);
CREATE INDEX operations_charted ON operations (namespace, created, type);
CREATE INDEX events_charted ON events (namespace, created, type);
CREATE INDEX blockchain_events_charted ON blockchain_events (namespace, timestamp);

$ONLY_POSTGRES$ DROP INDEX messages_created;
$ONLY_POSTGRES$ DROP INDEX transactions_created;
$ONLY_POSTGRES$ DROP INDEX operations_created;
$ONLY_POSTGRES$ DROP INDEX events_created;
$ONLY_POSTGRES$ DROP INDEX blockchain_events_timestamp;
