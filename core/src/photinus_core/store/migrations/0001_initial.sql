-- The core's tables, in the subset of SQL that SQLite and PostgreSQL share. Adapters replace three words:
-- $SEQUENCE$ (a growing local number, the primary key), $BYTES$ (binary), $CLUSTERED$ (rows kept in key order).
--
-- Every row carries its namespace. Absent texts are '', so that equality and negation need no case for NULL. Times
-- are nanoseconds since the epoch. Lists of texts are joined by commas (store/rows.py). Large texts come last.

CREATE TABLE meta (
    key TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) $CLUSTERED$;

CREATE TABLE leases (
    role TEXT NOT NULL PRIMARY KEY,
    epoch BIGINT NOT NULL
) $CLUSTERED$;

CREATE TABLE namespaces (
    name TEXT NOT NULL PRIMARY KEY,
    network_name TEXT NOT NULL,
    description TEXT NOT NULL,
    created BIGINT NOT NULL,
    halted TEXT NOT NULL,
    contracts TEXT NOT NULL
) $CLUSTERED$;

-- The newest event sequence of each namespace: one short row, taken last in every transaction that writes events.
CREATE TABLE event_heads (
    namespace TEXT NOT NULL PRIMARY KEY,
    sequence BIGINT NOT NULL
) $CLUSTERED$;

CREATE TABLE messages (
    sequence $SEQUENCE$,
    namespace TEXT NOT NULL,
    id TEXT NOT NULL,
    hash TEXT NOT NULL,
    own BOOLEAN NOT NULL,
    state TEXT NOT NULL,
    type TEXT NOT NULL,
    txtype TEXT NOT NULL,
    author TEXT NOT NULL,
    signing_key TEXT NOT NULL,
    created BIGINT NOT NULL,
    network_namespace TEXT NOT NULL,
    topics TEXT NOT NULL,
    tag TEXT NOT NULL,
    datahash TEXT NOT NULL,
    cid TEXT NOT NULL,
    group_hash TEXT NOT NULL,
    txparent_type TEXT NOT NULL,
    txparent_id TEXT NOT NULL,
    batch TEXT NOT NULL,
    txid TEXT NOT NULL,
    confirmed BIGINT,
    reject_reason TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    pins TEXT NOT NULL,
    data_refs TEXT NOT NULL
);
CREATE UNIQUE INDEX messages_content ON messages (namespace, id, hash);
CREATE UNIQUE INDEX messages_idempotency ON messages (namespace, idempotency_key) WHERE idempotency_key <> '';
CREATE INDEX messages_newest ON messages (namespace, sequence);
CREATE INDEX messages_ready ON messages (namespace, sequence) WHERE state = 'ready' AND batch = '';
CREATE INDEX messages_batch ON messages (namespace, batch, sequence) WHERE batch <> '';
CREATE INDEX messages_cid ON messages (namespace, cid) WHERE cid <> '';
CREATE INDEX messages_tag ON messages (namespace, tag, sequence) WHERE tag <> '';
CREATE INDEX messages_topics ON messages (namespace, topics, sequence);
CREATE INDEX messages_group ON messages (namespace, group_hash, sequence) WHERE group_hash <> '';

CREATE TABLE message_data (
    namespace TEXT NOT NULL,
    data_id TEXT NOT NULL,
    message_id TEXT NOT NULL,
    PRIMARY KEY (namespace, data_id, message_id)
) $CLUSTERED$;

CREATE TABLE data (
    sequence $SEQUENCE$,
    namespace TEXT NOT NULL,
    id TEXT NOT NULL,
    hash TEXT NOT NULL,
    visible BOOLEAN NOT NULL,
    validator TEXT NOT NULL,
    created BIGINT NOT NULL,
    datatype_name TEXT NOT NULL,
    datatype_version TEXT NOT NULL,
    blob_hash TEXT NOT NULL,
    blob_size BIGINT NOT NULL,
    blob_name TEXT NOT NULL,
    blob_path TEXT NOT NULL,
    blob_public TEXT NOT NULL,
    public TEXT NOT NULL,
    value_size BIGINT NOT NULL,
    value TEXT
);
CREATE UNIQUE INDEX data_content ON data (namespace, id, hash);
CREATE INDEX data_newest ON data (namespace, sequence);
CREATE INDEX data_blob_hash ON data (namespace, blob_hash) WHERE blob_hash <> '';
CREATE INDEX data_blob_path ON data (namespace, blob_path) WHERE blob_path <> '';

CREATE TABLE blobs (
    namespace TEXT NOT NULL,
    data_id TEXT NOT NULL,
    hash TEXT NOT NULL,
    payload_ref TEXT NOT NULL,
    size BIGINT NOT NULL,
    created BIGINT NOT NULL,
    peer TEXT NOT NULL,
    PRIMARY KEY (namespace, data_id, hash)
) $CLUSTERED$;

CREATE TABLE batches (
    sequence $SEQUENCE$,
    namespace TEXT NOT NULL,
    id TEXT NOT NULL,
    hash TEXT NOT NULL,
    own BOOLEAN NOT NULL,
    type TEXT NOT NULL,
    author TEXT NOT NULL,
    signing_key TEXT NOT NULL,
    created BIGINT NOT NULL,
    tx_type TEXT NOT NULL,
    tx_id TEXT NOT NULL,
    node TEXT NOT NULL,
    group_hash TEXT NOT NULL,
    confirmed BIGINT,
    payload_ref TEXT NOT NULL,
    dispatched BOOLEAN NOT NULL,
    cancelled BOOLEAN NOT NULL,
    manifest TEXT NOT NULL
);
CREATE UNIQUE INDEX batches_content ON batches (namespace, id, hash);
CREATE INDEX batches_newest ON batches (namespace, sequence);
CREATE INDEX batches_open ON batches (namespace, sequence) WHERE dispatched = FALSE;
CREATE INDEX batches_undecided ON batches (namespace, sequence) WHERE own = TRUE AND confirmed IS NULL;
CREATE INDEX batches_transaction ON batches (namespace, tx_id);

CREATE TABLE pins (
    sequence $SEQUENCE$,
    namespace TEXT NOT NULL,
    hash TEXT NOT NULL,
    batch TEXT NOT NULL,
    batch_hash TEXT NOT NULL,
    pin_index BIGINT NOT NULL,
    signer TEXT NOT NULL,
    masked BOOLEAN NOT NULL,
    created BIGINT NOT NULL,
    contract_index BIGINT NOT NULL,
    block BIGINT NOT NULL,
    transaction_index BIGINT NOT NULL,
    log_index BIGINT NOT NULL,
    protocol_id TEXT NOT NULL,
    payload_ref TEXT NOT NULL,
    dispatched BOOLEAN NOT NULL
);
CREATE UNIQUE INDEX pins_content ON pins (namespace, batch, batch_hash, pin_index, protocol_id);
CREATE INDEX pins_newest ON pins (namespace, sequence);
CREATE INDEX pins_undecided ON pins (namespace, sequence) WHERE dispatched = FALSE;
CREATE INDEX pins_masked ON pins (namespace, hash) WHERE dispatched = FALSE AND masked = TRUE;

CREATE TABLE next_pins (
    namespace TEXT NOT NULL,
    context TEXT NOT NULL,
    identity TEXT NOT NULL,
    hash TEXT NOT NULL,
    nonce BIGINT NOT NULL,
    decided_key TEXT NOT NULL,
    PRIMARY KEY (namespace, context, identity)
) $CLUSTERED$;

CREATE TABLE nonces (
    namespace TEXT NOT NULL,
    hash TEXT NOT NULL,
    nonce BIGINT NOT NULL,
    PRIMARY KEY (namespace, hash)
) $CLUSTERED$;

CREATE TABLE privacy_groups (
    sequence $SEQUENCE$,
    namespace TEXT NOT NULL,
    hash TEXT NOT NULL,
    network_namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    created BIGINT NOT NULL,
    message TEXT NOT NULL,
    members TEXT NOT NULL
);
CREATE UNIQUE INDEX privacy_groups_hash ON privacy_groups (namespace, hash);

CREATE TABLE wakeups (
    sequence $SEQUENCE$,
    namespace TEXT NOT NULL,
    kind TEXT NOT NULL,
    key TEXT NOT NULL
);
CREATE INDEX wakeups_oldest ON wakeups (namespace, sequence);

CREATE TABLE parked_messages (
    sequence $SEQUENCE$,
    namespace TEXT NOT NULL,
    id TEXT NOT NULL,
    peer TEXT NOT NULL,
    recipient TEXT NOT NULL,
    received BIGINT NOT NULL,
    size BIGINT NOT NULL,
    payload TEXT NOT NULL
);
CREATE UNIQUE INDEX parked_messages_id ON parked_messages (namespace, id);
CREATE INDEX parked_messages_peer ON parked_messages (namespace, peer, sequence);

CREATE TABLE identities (
    sequence $SEQUENCE$,
    namespace TEXT NOT NULL,
    id TEXT NOT NULL,
    did TEXT NOT NULL,
    type TEXT NOT NULL,
    network_namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    parent TEXT NOT NULL,
    created BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    description TEXT NOT NULL,
    claim TEXT NOT NULL,
    verification TEXT NOT NULL,
    update_message TEXT NOT NULL,
    position TEXT NOT NULL,
    profile TEXT NOT NULL
);
CREATE UNIQUE INDEX identities_id ON identities (namespace, id);
CREATE UNIQUE INDEX identities_did ON identities (namespace, did);
CREATE UNIQUE INDEX identities_name ON identities (namespace, type, name);

CREATE TABLE verifiers (
    sequence $SEQUENCE$,
    namespace TEXT NOT NULL,
    hash TEXT NOT NULL,
    identity TEXT NOT NULL,
    type TEXT NOT NULL,
    value TEXT NOT NULL,
    created BIGINT NOT NULL,
    position TEXT NOT NULL
);
CREATE UNIQUE INDEX verifiers_value ON verifiers (namespace, type, value);
CREATE INDEX verifiers_identity ON verifiers (namespace, identity);

CREATE TABLE datatypes (
    sequence $SEQUENCE$,
    namespace TEXT NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    hash TEXT NOT NULL,
    created BIGINT NOT NULL,
    message TEXT NOT NULL,
    position TEXT NOT NULL,
    value TEXT NOT NULL
);
CREATE UNIQUE INDEX datatypes_id ON datatypes (namespace, id);
CREATE UNIQUE INDEX datatypes_name ON datatypes (namespace, name, version);

CREATE TABLE transactions (
    sequence $SEQUENCE$,
    namespace TEXT NOT NULL,
    id TEXT NOT NULL,
    type TEXT NOT NULL,
    created BIGINT NOT NULL,
    idempotency_key TEXT NOT NULL,
    blockchain_ids TEXT NOT NULL
);
CREATE UNIQUE INDEX transactions_id ON transactions (namespace, id);
CREATE UNIQUE INDEX transactions_idempotency ON transactions (namespace, idempotency_key) WHERE idempotency_key <> '';
CREATE INDEX transactions_newest ON transactions (namespace, sequence);

CREATE TABLE operations (
    sequence $SEQUENCE$,
    namespace TEXT NOT NULL,
    id TEXT NOT NULL,
    tx TEXT NOT NULL,
    type TEXT NOT NULL,
    status TEXT NOT NULL,
    plugin TEXT NOT NULL,
    created BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    retry TEXT NOT NULL,
    error TEXT NOT NULL,
    input TEXT NOT NULL,
    output TEXT NOT NULL
);
CREATE UNIQUE INDEX operations_id ON operations (namespace, id);
CREATE INDEX operations_transaction ON operations (namespace, tx, sequence);
CREATE INDEX operations_newest ON operations (namespace, sequence);
CREATE INDEX operations_unfinished ON operations (namespace, sequence)
    WHERE status IN ('Initialized', 'Pending') AND retry = '';

CREATE TABLE blockchain_events (
    sequence $SEQUENCE$,
    namespace TEXT NOT NULL,
    id TEXT NOT NULL,
    source TEXT NOT NULL,
    name TEXT NOT NULL,
    protocol_id TEXT NOT NULL,
    timestamp BIGINT NOT NULL,
    listener TEXT NOT NULL,
    tx_type TEXT NOT NULL,
    tx_id TEXT NOT NULL,
    tx_blockchain_id TEXT NOT NULL,
    location TEXT NOT NULL,
    signature TEXT NOT NULL,
    info TEXT NOT NULL,
    output TEXT NOT NULL
);
CREATE UNIQUE INDEX blockchain_events_id ON blockchain_events (namespace, id);
CREATE UNIQUE INDEX blockchain_events_content ON blockchain_events (namespace, listener, protocol_id);
CREATE INDEX blockchain_events_newest ON blockchain_events (namespace, sequence);
CREATE INDEX blockchain_events_transaction ON blockchain_events (namespace, tx_id, sequence) WHERE tx_id <> '';

CREATE TABLE checkpoints (
    namespace TEXT NOT NULL,
    consumer TEXT NOT NULL,
    listener TEXT NOT NULL,
    value $BYTES$ NOT NULL,
    PRIMARY KEY (namespace, consumer, listener)
) $CLUSTERED$;

CREATE TABLE notes (
    namespace TEXT NOT NULL,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (namespace, kind, key)
) $CLUSTERED$;

CREATE TABLE events (
    namespace TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    id TEXT NOT NULL,
    type TEXT NOT NULL,
    reference TEXT NOT NULL,
    correlator TEXT NOT NULL,
    tx TEXT NOT NULL,
    topic TEXT NOT NULL,
    created BIGINT NOT NULL,
    PRIMARY KEY (namespace, sequence)
) $CLUSTERED$;
CREATE UNIQUE INDEX events_id ON events (namespace, id);
CREATE INDEX events_reference ON events (namespace, reference);

CREATE TABLE subscriptions (
    sequence $SEQUENCE$,
    namespace TEXT NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    transport TEXT NOT NULL,
    first_event TEXT NOT NULL,
    read_ahead BIGINT NOT NULL,
    with_data BOOLEAN NOT NULL,
    batch BOOLEAN NOT NULL,
    batch_timeout_ms BIGINT NOT NULL,
    created BIGINT NOT NULL,
    updated BIGINT,
    events TEXT NOT NULL,
    filter TEXT NOT NULL,
    filter_json TEXT NOT NULL,
    options_json TEXT NOT NULL
);
CREATE UNIQUE INDEX subscriptions_id ON subscriptions (namespace, id);
CREATE UNIQUE INDEX subscriptions_name ON subscriptions (namespace, name);

CREATE TABLE offsets (
    namespace TEXT NOT NULL,
    subscription TEXT NOT NULL,
    current BIGINT NOT NULL,
    PRIMARY KEY (namespace, subscription)
) $CLUSTERED$;
