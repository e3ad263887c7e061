"""FireFly's part of the error catalogue: (code, HTTP status, text). See `catalogue`."""

# ruff: noqa: E501 - each text on one line where it can be, so that it is found by searching

from __future__ import annotations

from typing import Final

_NAME_RULE = (
    "must be 1-64 characters, including alphanumerics (a-zA-Z0-9), dot (.), dash (-) and "
    "underscore (_), and must start/end in an alphanumeric"
)
_INVALID_NAMESPACE = "Invalid {} namespace configuration - "

_COMMON: Final = (
    ("FF00105", 400, "Failed to restore type '{}' into '{}'"),
    ("FF00107", 400, "Byte length must be 32 (64 hex characters)"),
    ("FF00108", 400, "Unknown validator type: '{}'"),
    ("FF00109", 400, "Data value is null"),
    ("FF00112", 400, "Field '{}' is required"),
    ("FF00115", 400, "Group must have at least one member"),
    ("FF00119", 400, "Invalid group: hashes do not match Hash={} Expected={}"),
    ("FF00120", 400, "'{}' is not the DID of an identity with type='{}' namespace='{}' name='{}'"),
    ("FF00124", 400, "Identity of type '{}' must have a valid parent"),
    ("FF00126", 400, "Unknown identity type: {}"),
    ("FF00127", 400, "Failed to parse '{}' as JSON"),
    ("FF00129", 400, "Invalid message: data reference {} repeats an earlier one"),
    ("FF00133", 400, "Duplicate {} at index {}: '{}'"),
    ("FF00134", 400, "There may be at most {1} {0} items (supplied={2})"),
    ("FF00135", 400, "Field '{}' maximum length is {}"),
    ("FF00136", 400, "Cannot parse time as RFC3339, Unix, or UnixNano: '{}'"),
    ("FF00137", 400, "'{}' is neither a duration nor a number of milliseconds"),
    ("FF00138", 400, "Invalid UUID supplied: {}"),
    ("FF00140", 400, "Field '{}' " + _NAME_RULE),
    ("FF00141", 400, "Field '{}' must not be a UUID"),
    ("FF00142", 400, "Unknown filter '{}'"),
    ("FF00143", 400, "Unable to parse value for filter '{}': {}"),
    ("FF00144", 400, "Comparison operator for field '{}' cannot accept a null value"),
    (
        "FF00145",
        400,
        "Field '{}' of type '{}' does not support partial or case-insensitive string matching",
    ),
    ("FF00161", 400, "Error reading multi-part form input: {}"),
    ("FF00162", 415, "Invalid content type '{}'"),
    ("FF00163", 400, "Additional form field sent after file in multi-part form (ignored): '{}'"),
    ("FF00164", 404, "No result found"),
    ("FF00166", 408, "The request timed out before its end was known"),
    ("FF00168", 500, "Unknown auth plugin: '{}'"),
    ("FF00169", 401, "Unauthorized"),
    ("FF00170", 403, "Forbidden"),
    ("FF00191", 400, "You have reached the maximum pagination limit for this query ({:,})"),
    ("FF00192", 400, "Your query exceeds the maximum filter limit ({:,})"),
    ("FF00193", 400, "Operation '{}' on '{}' does not support modifiers"),
    ("FF00240", 400, "Operation '{}' in a JSON query does not support '{}'"),
    ("FF00241", 400, "A value in a JSON query must be a string, a number or a boolean"),
)

_REQUESTS: Final = (
    ("FF10103", 400, "Failed to decode input JSON: {}"),
    ("FF10109", 404, "Not found"),
    ("FF10143", 404, "No result found"),
    ("FF10187", 404, "Namespace does not exist"),
    ("FF10260", 408, "The request with id '{}' timed out after {:,.2f}ms"),
    (
        "FF10261",
        400,
        "For request messages 'header.tag' must be set on the request message to route it to a suitable responder",
    ),
    ("FF10262", 400, "For request messages 'header.cid' must be unset"),
    ("FF10271", 400, "For request messages you must specify a group of private recipients"),
    ("FF10287", 400, "Invalid message type - allowed types are {}"),
    ("FF10298", 400, "Number of time intervals must be between {} and {}"),
    ("FF10299", 400, "Invalid {}. Must be a number."),
    ("FF10300", 400, "Start time must be before end time"),
    ("FF10301", 400, "{} collection is not supported"),
    ("FF10397", 400, "Unrecognized network action: {}"),
    ("FF10411", 400, "ID '{}' must begin with a namespace and a colon"),
    ("FF10414", 400, "This action is not supported in this namespace"),
    ("FF10430", 409, "Idempotency key '{}' already used for message '{}'"),
    ("FF10431", 409, "Idempotency key '{}' already used for transaction '{}'"),
    ("FF10436", 404, "Unknown namespace '{}'"),
    ("FF10438", 409, "The reset API cannot be used while the configuration is reloaded by itself"),
    ("FF10441", 412, "Namespace '{}' is initializing"),
)

_MESSAGES: Final = (
    ("FF10195", 400, "Datatype '{}' not found"),
    ("FF10196", 400, "Datatype '{}' schema invalid: {}"),
    ("FF10198", 400, "Data does not conform to the JSON schema of datatype '{}': {}"),
    ("FF10204", 400, "Data reference {} cannot be resolved"),
    (
        "FF10205",
        400,
        "Data entry {} has neither 'id' to refer to existing data, or 'value' to include in-line JSON data",
    ),
    ("FF10206", 400, "Invalid author specified: {}"),
    ("FF10224", 400, "Node with name or identity '{}' not found"),
    ("FF10226", 404, "Group '{}' not found"),
    ("FF10233", 400, "Neither organisation '{}' nor one above it has a node"),
    ("FF10239", 404, "No blob has been uploaded or confirmed received, with hash={}"),
    ("FF10241", 404, "Data does not have a blob attachment"),
    ("FF10269", 409, "Message with ID '{}' was rejected: {}"),
    (
        "FF10327",
        400,
        "Message size {:,.2f}kb is too large for the max broadcast batch size of {:,.2f}kb",
    ),
    (
        "FF10328",
        400,
        "Message size {:,.2f}kb is too large for the max private message size of {:,.2f}kb",
    ),
    ("FF10329", 400, "The receiver's manifest of '{}' differs from the sender's: '{}'"),
    ("FF10348", 400, "Blob hash mismatch sent={} received={}"),
    (
        "FF10422",
        400,
        "Invalid group member - node '{}' belongs neither to '{}' nor to one above it",
    ),
    ("FF10466", 400, "Cannot cancel batch of type: {}"),
    ("FF10468", 400, "Cannot cancel batch '{}': {}"),
)

_IDENTITIES: Final = (
    ("FF10141", 400, "Supplied ethereum address is invalid"),
    ("FF10216", 409, "node.name, org.name and org.key must be configured first"),
    ("FF10277", 404, "Identity could not be resolved via lookup string '{}'"),
    ("FF10352", 400, "No blockchain key specified"),
    ("FF10353", 400, "No {} verifier registered for identity {}"),
    ("FF10354", 400, "This namespace has neither a default signing key nor an organisation's key"),
    (
        "FF10355",
        400,
        "Verifier '{}' cannot be used for signing with author '{}'. Verifier registered to '{}'",
    ),
    (
        "FF10356",
        404,
        "Key '{}' has not been registered by any identity, and a separate 'author' was not supplied",
    ),
    ("FF10365", 400, "{} ({}) of type {} cannot be the parent of {} ({}) of type {}"),
    ("FF10367", 500, "The data exchange gave an endpoint without 'id'"),
    ("FF10480", 400, "A profile must be provided when updating an identity"),
)

_DEFINITIONS: Final = (
    ("FF10400", 400, "Rejected {} message '{}' - invalid payload"),
    ("FF10403", 500, "Rejected {} '{}' - validate failed: {}"),
    ("FF10404", 409, "Rejected {} '{}' - ID mismatch with existing record"),
    ("FF10407", 409, "Rejected {} '{}' - conflicts with existing: {}"),
    ("FF10408", 400, "Rejected {} '{}' - identity not found: {}"),
    ("FF10409", 400, "Rejected {} '{}' - wrong author: {}"),
    ("FF10410", 400, "Rejected {} '{}' - hash mismatch: {} != {}"),
    ("FF10413", 400, "Definition rejected"),
)

_DELIVERY: Final = (
    ("FF10171", 400, "Unable to compile '{}' regexp '{}': {}"),
    ("FF10172", 400, "Unknown event transport plugin: {}"),
    ("FF10175", 400, "Acknowledgment does not match an inflight event + subscription"),
    ("FF10176", 400, "Invalid data: {}"),
    ("FF10177", 400, "Unknown action '{}'"),
    ("FF10178", 400, "A start action must set namespace and either a name or ephemeral=true"),
    ("FF10179", 400, "The autoack option must be set consistently on all start requests"),
    ("FF10180", 400, "The autoack option is enabled on this connection"),
    (
        "FF10191",
        400,
        "Invalid firstEvent definition - must be 'newest','oldest' or a sequence number: {}",
    ),
    ("FF10192", 400, "Number must be greater than or equal to {}"),
    ("FF10193", 409, "A {} with name '{}:{}' already exists"),
    ("FF10242", 400, "Webhook subscription option 'url' cannot be empty"),
    ("FF10243", 400, "Webhook subscription option '{}' must be a map of string values"),
    (
        "FF10244",
        400,
        "Websockets subscriptions do not support streaming the full data payload, just the references (withData must be false)",
    ),
    ("FF10266", 400, "You cannot create subscriptions on the system events transport"),
    ("FF10455", 400, "Unknown TLS configuration: {}"),
    ("FF10460", 400, "Batches cannot be combined with withData"),
    (
        "FF10462",
        400,
        "Websocket request received on a namespace scoped connection but the provided namespace does not match",
    ),
    (
        "FF10463",
        400,
        "Event scan limit breached with start sequence ID {} and end sequence ID {}. Please restrict your query to a narrower range",
    ),
    ("FF10464", 400, "Could not parse provided {} to an integer sequence ID"),
)

_CONNECTORS: Final = (
    ("FF10110", 500, "Unknown blockchain plugin: {}"),
    ("FF10134", 500, "Unknown Shared Storage plugin '{}'"),
    ("FF10213", 500, "Unknown Data Exchange plugin '{}'"),
    ("FF10238", 500, "The data exchange stored hash={}, expected={}"),
    ("FF10310", 400, "Failed to validate contract location: {}"),
    ("FF10377", 500, "'{}' in shared storage is larger than a batch may be"),
)

_CONFIGURATION: Final = (
    ("FF10122", 500, "Unknown database plugin '{}'"),
    (
        "FF10166",
        500,
        "namespaces.default '{}' must be included in the namespaces.predefined configuration",
    ),
    ("FF10272", 400, "Unknown tokens plugin '{}'"),
    ("FF10386", 500, "Invalid {} plugin configuration - name and type are required"),
    ("FF10388", 500, "Invalid namespace configuration - {} is a reserved name"),
    ("FF10390", 500, _INVALID_NAMESPACE + "unknown plugin {}"),
    (
        "FF10391",
        500,
        _INVALID_NAMESPACE
        + "multiparty mode requires database, blockchain, shared storage, and data exchange plugins",
    ),
    ("FF10392", 500, _INVALID_NAMESPACE + "a database plugin is required"),
    ("FF10394", 500, _INVALID_NAMESPACE + "multiple {} plugins provided"),
    ("FF10395", 409, "Invalid plugin configuration - plugin with name {} already exists"),
    ("FF10396", 409, "No configuration found for FireFly contract at {}"),
)

FIREFLY: Final = (
    *_COMMON,
    *_REQUESTS,
    *_MESSAGES,
    *_IDENTITIES,
    *_DEFINITIONS,
    *_DELIVERY,
    *_CONNECTORS,
    *_CONFIGURATION,
)
