"""Generated from proto/photinus/connector/v1; do not edit.

The contracts as classes to be implemented. `Call` is what travels beside a request.
"""

from collections.abc import AsyncIterator
from typing import Generic, TypeVar

from photinus.connector.v1 import blockchain_pb2
from photinus.connector.v1 import common_pb2
from photinus.connector.v1 import data_exchange_pb2
from photinus.connector.v1 import shared_storage_pb2
from photinus.connector.v1 import tokens_pb2

Call = TypeVar("Call")


class BlockchainMethods(Generic[Call]):
    """Calls to a ledger. Submissions answer once the work is journaled; its end arrives as an OperationUpdate event.
    Listeners are opened on EventService.Stream.

    Errors of submissions (code / ErrorInfo.reason / disposition):
    INVALID_ARGUMENT / INVALID_INPUTS / NOT_SENT: the inputs do not fit; the operation fails.
    FAILED_PRECONDITION / TRANSACTION_REVERTED / NOT_SENT: the contract refused it when it was tried out before sending
    (Ethereum's estimate, Fabric's endorsement); metadata `revert` has the reason.
    FAILED_PRECONDITION / INSUFFICIENT_FUNDS / NOT_SENT: the signer cannot pay.
    FAILED_PRECONDITION / NO_CONTRACT / NOT_SENT: there is no contract at the location; the operation fails.
    FAILED_PRECONDITION / NOT_ALLOWED / NOT_SENT: the ledger does not let this signer do it; the operation fails.
    UNAVAILABLE / DOWNSTREAM_DOWN / NOT_SENT with RetryInfo: the ledger is away; the same key later.
    DEADLINE_EXCEEDED / TIMEOUT / MAYBE_SENT: ask GetOperation.
    INTERNAL / anything / MAYBE_SENT: ask GetOperation, and look at the log.
    """

    async def resolve_key(
        self, request: blockchain_pb2.ResolveKeyRequest, call: Call
    ) -> blockchain_pb2.ResolveKeyResponse:
        """Turns what a user wrote into the canonical form of a signing key. Pure for the caller.
        NOT_FOUND / UNKNOWN_KEY: a key that the connector does not hold, and the intent needs it held. INVALID_ARGUMENT /
        INVALID_KEY: neither a key nor a name that the connector can turn into one.
        """
        raise TypeError("this class does not offer ResolveKey")

    async def submit_batch_pin(
        self, request: blockchain_pb2.SubmitBatchPinRequest, call: Call
    ) -> common_pb2.Submission:
        """Pins a batch on the multiparty contract. Submissions of one signer reach the ledger in the order of their calls. (A
        ledger without sequence numbers may lose what it acknowledged, and the connector then sends it later than it
        should: members agree all the same, only later.)
        """
        raise TypeError("this class does not offer SubmitBatchPin")

    async def submit_network_action(
        self, request: blockchain_pb2.SubmitNetworkActionRequest, call: Call
    ) -> common_pb2.Submission:
        """Records a network action on the multiparty contract."""
        raise TypeError("this class does not offer SubmitNetworkAction")

    async def invoke_contract(
        self, request: blockchain_pb2.InvokeContractRequest, call: Call
    ) -> common_pb2.Submission:
        """Calls a method of a contract in a transaction."""
        raise TypeError("this class does not offer InvokeContract")

    async def deploy_contract(
        self, request: blockchain_pb2.DeployContractRequest, call: Call
    ) -> common_pb2.Submission:
        """Deploys a contract. The update's output holds `contractLocation`."""
        raise TypeError("this class does not offer DeployContract")

    async def query_contract(
        self, request: blockchain_pb2.QueryContractRequest, call: Call
    ) -> blockchain_pb2.QueryContractResponse:
        """Calls a method of a contract without a transaction. A revert is FAILED_PRECONDITION / TRANSACTION_REVERTED."""
        raise TypeError("this class does not offer QueryContract")

    async def parse_interface(
        self, request: blockchain_pb2.ParseInterfaceRequest, call: Call
    ) -> blockchain_pb2.ParseInterfaceResponse:
        """Checks a method and its errors once and gives an id for later calls. The id is a cache entry, not state."""
        raise TypeError("this class does not offer ParseInterface")

    async def generate_interface(
        self, request: blockchain_pb2.GenerateInterfaceRequest, call: Call
    ) -> blockchain_pb2.GenerateInterfaceResponse:
        """Derives a FireFly interface from the ledger's own description of a contract (Ethereum: an ABI; Fabric: metadata)."""
        raise TypeError("this class does not offer GenerateInterface")

    async def describe_event(
        self, request: blockchain_pb2.DescribeEventRequest, call: Call
    ) -> blockchain_pb2.DescribeEventResponse:
        """Gives the signature of an event or an error, and whether two filters can match the same event."""
        raise TypeError("this class does not offer DescribeEvent")

    async def normalize_location(
        self, request: blockchain_pb2.NormalizeLocationRequest, call: Call
    ) -> blockchain_pb2.NormalizeLocationResponse:
        """Checks a contract's location and gives its canonical form."""
        raise TypeError("this class does not offer NormalizeLocation")

    async def get_network_version(
        self, request: blockchain_pb2.GetNetworkVersionRequest, call: Call
    ) -> blockchain_pb2.GetNetworkVersionResponse:
        """Asks a multiparty contract for its version."""
        raise TypeError("this class does not offer GetNetworkVersion")

    async def get_transaction_status(
        self, request: blockchain_pb2.GetTransactionStatusRequest, call: Call
    ) -> blockchain_pb2.GetTransactionStatusResponse:
        """Asks the ledger what it knows of a transaction, live."""
        raise TypeError("this class does not offer GetTransactionStatus")

    async def get_param_schema(
        self, request: blockchain_pb2.GetParamSchemaRequest, call: Call
    ) -> blockchain_pb2.GetParamSchemaResponse:
        """Gives the JSON Schema that parameters of interfaces must fit."""
        raise TypeError("this class does not offer GetParamSchema")


class DataExchangeMethods(Generic[Call]):
    """Messages and blobs to and from the data exchanges of other members.

    A peer id is `<peer>` or `<peer>/<node>`: the name its certificate proves, and the node behind it. What peers send
    arrives as MessageReceived and BlobReceived on streams whose DestinationFilter fits. Sends are durable once answered;
    their end arrives as an OperationUpdate: SUCCEEDED when the peer's core has stored it (with `manifest` or `hash`), or,
    towards a peer that knows no receipts, when the peer accepted it (`manifest` empty).
    """

    async def get_endpoint(
        self, request: data_exchange_pb2.GetEndpointRequest, call: Call
    ) -> data_exchange_pb2.GetEndpointResponse:
        """Gives what other members must know of this one, as FireFly's node profile."""
        raise TypeError("this class does not offer GetEndpoint")

    async def add_peer(
        self, request: data_exchange_pb2.AddPeerRequest, call: Call
    ) -> data_exchange_pb2.AddPeerResponse:
        """Makes a peer known, or replaces what is known of it. Durable and idempotent. Takes effect at once."""
        raise TypeError("this class does not offer AddPeer")

    async def remove_peer(
        self, request: data_exchange_pb2.RemovePeerRequest, call: Call
    ) -> data_exchange_pb2.RemovePeerResponse:
        """Forgets a peer: its sends end as failed, what it sends is refused. Idempotent."""
        raise TypeError("this class does not offer RemovePeer")

    async def send_message(
        self, request: data_exchange_pb2.SendMessageRequest, call: Call
    ) -> common_pb2.Submission:
        """Queues a message for a peer. NOT_FOUND / UNKNOWN_PEER; INVALID_ARGUMENT / MESSAGE_TOO_LARGE.
        Messages and blobs to one peer are sent in the order of their calls; a blob a message refers to goes first.
        """
        raise TypeError("this class does not offer SendMessage")

    async def send_blob(
        self, request: data_exchange_pb2.SendBlobRequest, call: Call
    ) -> common_pb2.Submission:
        """Queues a stored blob for a peer. NOT_FOUND / UNKNOWN_PEER or UNKNOWN_BLOB."""
        raise TypeError("this class does not offer SendBlob")

    async def upload_blob(
        self, header: data_exchange_pb2.UploadBlobHeader, chunks: AsyncIterator[bytes], call: Call
    ) -> data_exchange_pb2.UploadBlobResponse:
        """Stores a blob. The first frame has the header, the rest chunks of at most 1 MiB, the last the end. Nothing is left behind when the
        stream breaks. The same header and bytes again give the same answer.
        """
        raise TypeError("this class does not offer UploadBlob")

    def download_blob(
        self, request: data_exchange_pb2.DownloadBlobRequest, call: Call
    ) -> AsyncIterator[data_exchange_pb2.DownloadBlobResponse]:
        """Reads a stored blob. NOT_FOUND / UNKNOWN_BLOB."""
        raise TypeError("this class does not offer DownloadBlob")

    async def delete_blob(
        self, request: data_exchange_pb2.DeleteBlobRequest, call: Call
    ) -> data_exchange_pb2.DeleteBlobResponse:
        """Deletes a stored blob. Idempotent: an unknown one is success."""
        raise TypeError("this class does not offer DeleteBlob")


class SharedStorageMethods(Generic[Call]):
    """Content-addressed storage: the same bytes have the same reference, whoever stores them."""

    async def upload(
        self, header: shared_storage_pb2.UploadHeader, chunks: AsyncIterator[bytes], call: Call
    ) -> shared_storage_pb2.UploadResponse:
        """Stores bytes, durably and kept (pinned). The first frame has the header, the rest chunks of at most 1 MiB, the last the end. Nothing is
        left behind when the stream breaks.
        """
        raise TypeError("this class does not offer Upload")

    def download(
        self, request: shared_storage_pb2.DownloadRequest, call: Call
    ) -> AsyncIterator[bytes]:
        """Reads bytes; what is sent has been checked against the reference, or the stream ends with DATA_LOSS / HASH_MISMATCH.
        NOT_FOUND / UNKNOWN_PAYLOAD; FAILED_PRECONDITION / PAYLOAD_TOO_LARGE; UNAVAILABLE when the storage does not answer
        (nobody holds the bytes now, or it is away).
        """
        raise TypeError("this class does not offer Download")

    async def pin(
        self, request: shared_storage_pb2.PinRequest, call: Call
    ) -> shared_storage_pb2.PinResponse:
        """Keeps bytes that somebody else stored. Idempotent."""
        raise TypeError("this class does not offer Pin")

    async def unpin(
        self, request: shared_storage_pb2.UnpinRequest, call: Call
    ) -> shared_storage_pb2.UnpinResponse:
        """Allows them to be collected. Idempotent."""
        raise TypeError("this class does not offer Unpin")


class TokensMethods(Generic[Call]):
    """Calls to a token system. Errors as in BlockchainService. Transfers, approvals and pools arrive as events."""

    async def create_pool(
        self, request: tokens_pb2.CreatePoolRequest, call: Call
    ) -> common_pb2.Submission:
        """Creates a pool, or makes an existing token contract known. A TokenPoolEvent follows."""
        raise TypeError("this class does not offer CreatePool")

    async def activate_pool(
        self, request: tokens_pb2.ActivatePoolRequest, call: Call
    ) -> common_pb2.Submission:
        """Makes the connector follow a pool. A TokenPoolEvent with the pool's id follows. Idempotent by pool."""
        raise TypeError("this class does not offer ActivatePool")

    async def deactivate_pool(
        self, request: tokens_pb2.DeactivatePoolRequest, call: Call
    ) -> common_pb2.Submission:
        """Ends that. Idempotent."""
        raise TypeError("this class does not offer DeactivatePool")

    async def check_interface(
        self, request: tokens_pb2.CheckInterfaceRequest, call: Call
    ) -> tokens_pb2.CheckInterfaceResponse:
        """Picks, out of an interface, the methods that mint, burn, transfer and approve for a pool."""
        raise TypeError("this class does not offer CheckInterface")

    async def mint(
        self, request: tokens_pb2.MintRequest, call: Call
    ) -> common_pb2.Submission:
        """Creates tokens."""
        raise TypeError("this class does not offer Mint")

    async def burn(
        self, request: tokens_pb2.BurnRequest, call: Call
    ) -> common_pb2.Submission:
        """Destroys tokens."""
        raise TypeError("this class does not offer Burn")

    async def transfer(
        self, request: tokens_pb2.TransferRequest, call: Call
    ) -> common_pb2.Submission:
        """Moves tokens."""
        raise TypeError("this class does not offer Transfer")

    async def approve(
        self, request: tokens_pb2.ApproveRequest, call: Call
    ) -> common_pb2.Submission:
        """Gives or takes the right to move somebody's tokens."""
        raise TypeError("this class does not offer Approve")
