-- min code: 1
-- Indexes for the fields that clients filter by, on PostgreSQL: its tables grow large, and whoever looks for a rare value
-- must not read them all. SQLite's single writer would pay more for them than its readers gain.
--
-- Values that most rows have, and absent ones, are left out: a list of those is found at once in the order of age. Times
-- grow with the table: a block range index costs next to nothing. Texts that may be long are indexed by their beginning
-- (store/postgres_dialect.py), lists of hashes and large texts are not.

$ONLY_POSTGRES$ CREATE INDEX messages_author ON messages (namespace, left(author, $CHARS$), sequence);
$ONLY_POSTGRES$ CREATE INDEX messages_key ON messages (namespace, left(signing_key, $CHARS$), sequence);
$ONLY_POSTGRES$ CREATE INDEX messages_hash ON messages (namespace, hash);
$ONLY_POSTGRES$ CREATE INDEX messages_datahash ON messages (namespace, datahash);
$ONLY_POSTGRES$ CREATE INDEX messages_txid ON messages (namespace, txid, sequence) WHERE txid <> '';
$ONLY_POSTGRES$ CREATE INDEX messages_type ON messages (namespace, type, sequence)
    WHERE type <> 'broadcast' AND type <> 'private';
$ONLY_POSTGRES$ CREATE INDEX messages_txtype ON messages (namespace, txtype, sequence) WHERE txtype <> 'batch_pin';
$ONLY_POSTGRES$ CREATE INDEX messages_state ON messages (namespace, state, sequence) WHERE state <> 'confirmed';
$ONLY_POSTGRES$ CREATE INDEX messages_rejected ON messages (namespace, sequence) WHERE reject_reason <> '';
$ONLY_POSTGRES$ CREATE INDEX messages_txparent ON messages (namespace, txparent_id, sequence) WHERE txparent_id <> '';
$ONLY_POSTGRES$ CREATE INDEX messages_txparent_type ON messages (namespace, txparent_type, sequence)
    WHERE txparent_type <> '';
$ONLY_POSTGRES$ CREATE INDEX messages_created ON messages USING brin (created);
$ONLY_POSTGRES$ CREATE INDEX messages_confirmed ON messages USING brin (confirmed);

$ONLY_POSTGRES$ CREATE INDEX data_hash ON data (namespace, hash);
$ONLY_POSTGRES$ CREATE INDEX data_datatype ON data (namespace, left(datatype_name, $CHARS$), sequence)
    WHERE datatype_name <> '';
$ONLY_POSTGRES$ CREATE INDEX data_datatype_version ON data (namespace, left(datatype_version, $CHARS$), sequence)
    WHERE datatype_version <> '';
$ONLY_POSTGRES$ CREATE INDEX data_validator ON data (namespace, validator, sequence) WHERE validator <> 'json';
$ONLY_POSTGRES$ CREATE INDEX data_blob_name ON data (namespace, left(blob_name, $CHARS$)) WHERE blob_name <> '';
$ONLY_POSTGRES$ CREATE INDEX data_blob_public ON data (namespace, left(blob_public, $CHARS$)) WHERE blob_public <> '';
$ONLY_POSTGRES$ CREATE INDEX data_blob_size ON data (namespace, blob_size) WHERE blob_size > 0;
$ONLY_POSTGRES$ CREATE INDEX data_public ON data (namespace, left(public, $CHARS$)) WHERE public <> '';
$ONLY_POSTGRES$ CREATE INDEX data_created ON data USING brin (created);

$ONLY_POSTGRES$ CREATE INDEX batches_author ON batches (namespace, left(author, $CHARS$), sequence);
$ONLY_POSTGRES$ CREATE INDEX batches_key ON batches (namespace, left(signing_key, $CHARS$), sequence);
$ONLY_POSTGRES$ CREATE INDEX batches_hash ON batches (namespace, hash);
$ONLY_POSTGRES$ CREATE INDEX batches_group ON batches (namespace, group_hash, sequence) WHERE group_hash <> '';
$ONLY_POSTGRES$ CREATE INDEX batches_type ON batches (namespace, type, sequence);
$ONLY_POSTGRES$ CREATE INDEX batches_tx_type ON batches (namespace, tx_type, sequence) WHERE tx_type <> 'batch_pin';
$ONLY_POSTGRES$ CREATE INDEX batches_node ON batches (namespace, node, sequence) WHERE node <> '';
$ONLY_POSTGRES$ CREATE INDEX batches_payload_ref ON batches (namespace, left(payload_ref, $CHARS$))
    WHERE payload_ref <> '';
$ONLY_POSTGRES$ CREATE INDEX batches_created ON batches USING brin (created);
$ONLY_POSTGRES$ CREATE INDEX batches_confirmed ON batches USING brin (confirmed);

$ONLY_POSTGRES$ CREATE INDEX pins_hash ON pins (namespace, hash, sequence);
$ONLY_POSTGRES$ CREATE INDEX pins_protocol_id ON pins (namespace, protocol_id) WHERE dispatched = FALSE;
$ONLY_POSTGRES$ CREATE INDEX pins_private ON pins (namespace, sequence) WHERE masked = TRUE;
$ONLY_POSTGRES$ CREATE INDEX pins_index ON pins (namespace, pin_index, sequence) WHERE pin_index > 0;
$ONLY_POSTGRES$ CREATE INDEX pins_created ON pins USING brin (created);

$ONLY_POSTGRES$ CREATE INDEX next_pins_identity ON next_pins (namespace, identity);
$ONLY_POSTGRES$ CREATE INDEX next_pins_hash ON next_pins (namespace, hash);

$ONLY_POSTGRES$ CREATE INDEX events_type ON events (namespace, type, sequence);
$ONLY_POSTGRES$ CREATE INDEX events_topic ON events (namespace, left(topic, $CHARS$), sequence) WHERE topic <> '';
$ONLY_POSTGRES$ CREATE INDEX events_correlator ON events (namespace, correlator) WHERE correlator <> '';
$ONLY_POSTGRES$ CREATE INDEX events_tx ON events (namespace, tx, sequence) WHERE tx <> '';
$ONLY_POSTGRES$ CREATE INDEX events_created ON events USING brin (created);

$ONLY_POSTGRES$ CREATE INDEX transactions_type ON transactions (namespace, type, sequence);
$ONLY_POSTGRES$ CREATE INDEX transactions_blockchain_ids ON transactions (namespace, left(blockchain_ids, $CHARS$))
    WHERE blockchain_ids <> '';
$ONLY_POSTGRES$ CREATE INDEX transactions_created ON transactions USING brin (created);

$ONLY_POSTGRES$ CREATE INDEX operations_type ON operations (namespace, type, sequence);
$ONLY_POSTGRES$ CREATE INDEX operations_status ON operations (namespace, status, sequence) WHERE status <> 'Succeeded';
$ONLY_POSTGRES$ CREATE INDEX operations_plugin ON operations (namespace, plugin, sequence);
$ONLY_POSTGRES$ CREATE INDEX operations_retry ON operations (namespace, retry) WHERE retry <> '';
$ONLY_POSTGRES$ CREATE INDEX operations_error ON operations (namespace, left(error, $CHARS$)) WHERE error <> '';
$ONLY_POSTGRES$ CREATE INDEX operations_created ON operations USING brin (created);
$ONLY_POSTGRES$ CREATE INDEX operations_updated ON operations USING brin (updated);

$ONLY_POSTGRES$ CREATE INDEX blockchain_events_name ON blockchain_events (namespace, name, sequence);
$ONLY_POSTGRES$ CREATE INDEX blockchain_events_source ON blockchain_events (namespace, source, sequence);
$ONLY_POSTGRES$ CREATE INDEX blockchain_events_protocol_id ON blockchain_events (namespace, protocol_id);
$ONLY_POSTGRES$ CREATE INDEX blockchain_events_tx_blockchain_id ON blockchain_events (namespace, tx_blockchain_id)
    WHERE tx_blockchain_id <> '';
$ONLY_POSTGRES$ CREATE INDEX blockchain_events_tx_type ON blockchain_events (namespace, tx_type, sequence)
    WHERE tx_type <> 'batch_pin' AND tx_type <> '';
$ONLY_POSTGRES$ CREATE INDEX blockchain_events_timestamp ON blockchain_events USING brin (timestamp);
