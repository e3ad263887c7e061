"""The data exchange's tables.

They live in the instance's journal, so that an operation's outcome and the row that
brought it about commit together.
"""

from typing import Final

SECOND_NS: Final = 1_000_000_000

SCHEMA = """
CREATE TABLE IF NOT EXISTS dx_meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dx_peers (
    cluster_id TEXT NOT NULL, namespace TEXT NOT NULL, peer_id TEXT NOT NULL,
    network TEXT NOT NULL, endpoint TEXT NOT NULL, certificate TEXT NOT NULL,
    PRIMARY KEY (cluster_id, namespace, peer_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dx_outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    cluster_id TEXT NOT NULL, namespace TEXT NOT NULL, consumer TEXT NOT NULL, key TEXT NOT NULL,
    item_id TEXT NOT NULL, recipient TEXT NOT NULL, sender TEXT NOT NULL,
    network TEXT NOT NULL, data_id TEXT NOT NULL, payload_ref TEXT NOT NULL,
    attempted INTEGER NOT NULL DEFAULT 0, accepted_ns INTEGER NOT NULL DEFAULT 0,
    created_ns INTEGER NOT NULL,
    UNIQUE (cluster_id, namespace, consumer, key));
-- Apart, because an update of a row writes all of it again.
CREATE TABLE IF NOT EXISTS dx_outbox_text (
    seq INTEGER PRIMARY KEY REFERENCES dx_outbox ON DELETE CASCADE, message TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS dx_outbox_lane ON dx_outbox (cluster_id, namespace, recipient, seq)
    WHERE accepted_ns = 0;
CREATE INDEX IF NOT EXISTS dx_outbox_accepted ON dx_outbox (accepted_ns) WHERE accepted_ns > 0;
CREATE INDEX IF NOT EXISTS dx_outbox_item ON dx_outbox (item_id);
CREATE TABLE IF NOT EXISTS dx_inbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    sender TEXT NOT NULL, node TEXT NOT NULL, network TEXT NOT NULL, item_id TEXT NOT NULL,
    message TEXT NOT NULL, data_id TEXT NOT NULL, hash TEXT NOT NULL, size INTEGER NOT NULL,
    payload_ref TEXT NOT NULL, received_ns INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS dx_inbox_destination ON dx_inbox (network, node, seq);
CREATE INDEX IF NOT EXISTS dx_inbox_item ON dx_inbox (item_id) WHERE item_id <> '';
CREATE TABLE IF NOT EXISTS dx_seen (
    peer TEXT NOT NULL, repeat_key TEXT NOT NULL, until_ns INTEGER NOT NULL,
    PRIMARY KEY (peer, repeat_key)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS dx_seen_until ON dx_seen (until_ns);
CREATE TABLE IF NOT EXISTS dx_destinations (
    network TEXT NOT NULL, node TEXT NOT NULL, PRIMARY KEY (network, node)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dx_receipts (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    network TEXT NOT NULL, peer TEXT NOT NULL, item_id TEXT NOT NULL, recipient TEXT NOT NULL,
    manifest TEXT NOT NULL, hash TEXT NOT NULL, created_ns INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS dx_receipts_item ON dx_receipts (item_id);
CREATE INDEX IF NOT EXISTS dx_receipts_peer ON dx_receipts (network, peer, seq);
CREATE TABLE IF NOT EXISTS dx_blobs (
    payload_ref TEXT PRIMARY KEY, stored INTEGER NOT NULL, hash TEXT NOT NULL, size INTEGER NOT NULL)
    WITHOUT ROWID;
"""
