"""Our part of the error catalogue: (code, HTTP status, text). See `catalogue` for the ranges."""

# ruff: noqa: E501 - each text on one line where it can be, so that it is found by searching

from __future__ import annotations

from typing import Final

_REQUESTS: Final = (
    ("FF19000", 500, "This should not happen: {}. Please report it with the log"),
    ("FF19001", 400, "The request body is not valid JSON: {}"),
    ("FF19002", 400, "Field '{}': {}"),
    ("FF19003", 405, "Method {} is not allowed here; allowed: {}"),
    ("FF19004", 413, "The request body is larger than {:,} bytes"),
    ("FF19005", 400, "JSON is nested deeper than {} levels"),
    ("FF19007", 400, "The upload broke off after {:,} bytes; nothing was stored"),
    ("FF19008", 400, "Field '{}' must be valid Unicode text without NUL"),
    ("FF19009", 429, "This member already has {:,} open {}, the most it allows"),
    ("FF19010", 400, "Field '{}' must be between {} and {} (given {})"),
    ("FF19011", 503, "This replica is shutting down; try another, or try again"),
    ("FF19012", 400, "Filters may have at most {} conditions"),
    ("FF19014", 503, "The core cannot be reached: {}"),
    ("FF19015", 400, "Key '{}' cannot be used: {}"),
    ("FF19016", 503, "The configuration of a namespace in use here was changed; connect again"),
    ("FF19017", 400, "Webhooks to host '{}' are not allowed here (events.webhooks.allowedHosts)"),
    ("FF19018", 503, "Operation '{}' is not done yet; it is tried again by itself: {}"),
    ("FF19019", 500, "Operation '{}' failed: {}"),
    ("FF19020", 409, "Data '{}' is in message '{}', which is not decided yet"),
    ("FF19021", 404, "Data '{}' of batch '{}' was deleted"),
    ("FF19060", 503, "The signing keys of '{}' cannot be had: {}"),
)

_DATABASE: Final = (
    ("FF19100", 503, "The database is closed"),
    ("FF19101", 503, "The disk of the database is full: {}. Free some space; nothing was stored"),
    ("FF19102", 503, "The database stayed locked for {} s: {}"),
    ("FF19103", 503, "The database file {} is damaged: {}. Restore it from a backup"),
    (
        "FF19104",
        500,
        "The database has schema version {}, this program knows {} as the newest. Use a newer program",
    ),
    (
        "FF19105",
        500,
        "Migration {} was changed after it had been applied to this database. Use the program that made the database",
    ),
    ("FF19106", 503, "The database {} is used by another process ({}). Stop that one first"),
    ("FF19107", 503, "The database {} cannot be read or written: {}"),
    ("FF19108", 409, "This contradicts what is stored: {}"),
    ("FF19109", 500, "{} is not a database of this program"),
    ("FF19110", 503, "The database waited {} s for a commit under way"),
    ("FF19111", 408, "The query took longer than {} s; narrow its filter"),
    ("FF19112", 400, "A value cannot be stored: {}"),
    ("FF19120", 503, "Another replica leads {}: epoch {} is over"),
    ("FF19121", 503, "The leadership of {} cannot begin with epoch {}: a later one is recorded"),
    ("FF19122", 503, "All {} connections to the database stayed busy for {} s"),
    ("FF19130", 400, "The URL of the database is wrong: {}"),
    ("FF19131", 503, "PostgreSQL at {} cannot be reached: {}"),
    ("FF19132", 503, "PostgreSQL at {} refuses the login: {}"),
    ("FF19133", 503, "PostgreSQL at {} has no such database: {}. Create it first"),
    (
        "FF19134",
        503,
        "PostgreSQL at {} has no connection left: {}. Raise its max_connections or lower maxConns",
    ),
    ("FF19135", 503, "The connection to PostgreSQL at {} is lost: {}. Nothing was stored"),
    (
        "FF19136",
        503,
        (
            "The connection to PostgreSQL at {} was lost during a commit: {}. "
            "Look whether it was stored, or repeat the request with the same idempotency key"
        ),
    ),
    ("FF19137", 503, "PostgreSQL at {} wants the transaction repeated: {}. Nothing was stored"),
    ("FF19138", 503, "PostgreSQL at {} ended the transaction: {}. Nothing was stored"),
    ("FF19139", 500, "PostgreSQL at {} cannot serve as database: {}"),
    (
        "FF19150",
        503,
        "ZooKeeper ({}) cannot be reached: {}. This replica leads nothing until it can",
    ),
    (
        "FF19151",
        500,
        "The chroot {} of ZooKeeper belongs to the cluster with database {}, this one's is {}. Give each cluster a chroot of its own",
    ),
    (
        "FF19152",
        500,
        "The database was last used with another ZooKeeper ensemble than the one at {}. If that was replaced or emptied, stop all replicas and run `photinus cluster rebind`; else correct the hosts or the chroot",
    ),
    (
        "FF19153",
        500,
        "ZooKeeper ({}) refuses this replica: {}. Check its user, password and certificate",
    ),
    ("FF19154", 500, "ZooKeeper failed: {}"),
    (
        "FF19155",
        500,
        "A ZooKeeper session of {:g} s is no good: it must be between {:g} s (commits under way must end before it does) and {:g} s (so long a leader that died is waited for)",
    ),
    (
        "FF19156",
        500,
        "ZooKeeper gives sessions of {:g} s instead of the {:g} s configured; see its tickTime, minSessionTimeout and maxSessionTimeout",
    ),
    (
        "FF19157",
        500,
        "Replicas '{}' and '{}' have different configurations; start both with the same",
    ),
    ("FF19158", 500, "Two replicas are called '{}' ({} and {}); give each a name of its own"),
    (
        "FF19159",
        500,
        "Replicas cannot share the SQLite file of database '{}'; use PostgreSQL, or leave cluster.zookeeper out",
    ),
)

_CONNECTORS: Final = (
    ("FF19200", 503, "Connector '{}' is not there: {}"),
    ("FF19202", 502, "Connector '{}' broke the protocol: {}"),
    ("FF19203", 500, "Connector '{}' answered {}: {}"),
    ("FF19205", 500, "Connector '{}' refuses its configuration: {}"),
    ("FF19206", 500, "Connector '{}' cannot be launched: {}"),
    (
        "FF19207",
        500,
        "Connector '{}' has another store ({}) than the one it had before ({}): what it knew of work under way is gone",
    ),
    ("FF19208", 500, "Connector '{}' is a {}, configured as {}"),
    ("FF19209", 500, "Socket path '{}' is longer than {} bytes"),
    ("FF19210", 500, "Connector '{}' cannot be launched by a core with replicas; give its address"),
    ("FF19211", 500, "Connector '{}' does not speak protocol {}"),
    ("FF19212", 500, "Address '{}' is no good: {}"),
    ("FF19214", 500, "File '{}' cannot be used for TLS: {}"),
    ("FF19215", 500, "Directory '{}' of connectors cannot be watched: {}"),
)

_CONFIGURATION: Final = (
    ("FF19050", 409, "The configuration cannot be used, the former one is in force: {}"),
    ("FF19051", 503, "Replica '{}' could not be told to read its configuration again: {}"),
    (
        "FF19052",
        400,
        "This node was not started with a configuration file that could be read again",
    ),
    ("FF19301", 500, "Cannot read {}: {}"),
    ("FF19302", 500, "Two namespaces are called '{}'"),
    ("FF19303", 500, "Invalid {} namespace configuration - gateway mode cannot have a {} plugin"),
    ("FF19304", 500, "Unknown setting '{}'"),
    ("FF19305", 500, "Setting '{}': {}"),
    (
        "FF19306",
        500,
        "Namespace '{}': firstEvent of the first contract must not be 'newest'; a member that begins after the first pin decides differently",
    ),
    ("FF19307", 500, "Invalid {} namespace configuration - {}"),
)

_AGREEMENT: Final = (
    ("FF19400", 400, "The network message cannot be read: {}"),
    ("FF19401", 400, "Batch '{}' does not match its pin: {}"),
    ("FF19402", 400, "'{}' is not a member of group '{}' and cannot send to it"),
    (
        "FF19403",
        429,
        "Peer '{}' has left {:,} bytes here that cannot be judged yet, the most allowed",
    ),
    ("FF19404", 503, "Namespace '{}' has halted: {}"),
    ("FF19405", 400, "Message '{}' was cancelled"),
    ("FF19406", 400, "A broadcast goes to everybody and takes no group; send a private message"),
    ("FF19407", 503, "No replica leads namespace '{}' at the moment; try again"),
    ("FF19408", 400, "Operation '{}' belongs to batch '{}', which was cancelled"),
)

PHOTINUS: Final = (*_REQUESTS, *_DATABASE, *_CONNECTORS, *_CONFIGURATION, *_AGREEMENT)
