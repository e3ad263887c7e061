// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Multiparty pin contract, network version 2
/// @notice Puts the agreed order of batches on the chain. It stores nothing and checks nothing: who may pin is
///         decided by every member alike, from the identities registered off chain. ABI and event signature are
///         those of FireFly's version 2 contract, so that members running either product share one network.
contract Firefly {
    /// @param author Account that signed the transaction, also when a custom contract made the call.
    /// @param timestamp Time of the block, seconds since 1970.
    /// @param action `firefly:batch_pin`, `firefly:contract_invoke_pin`, or a network action.
    /// @param uuids UUID of the transaction, then UUID of the batch, 16 bytes each.
    /// @param batchHash SHA-256 of the batch; zero for a network action.
    /// @param payloadRef Where shared storage has the batch; empty for private ones; payload of a network action.
    /// @param contexts Hashes of topics, or masked hashes for private batches; empty for a network action.
    event BatchPin(
        address author,
        uint256 timestamp,
        string action,
        bytes32 uuids,
        bytes32 batchHash,
        string payloadRef,
        bytes32[] contexts
    );

    /// @notice Pins a batch.
    function pinBatch(
        bytes32 uuids,
        bytes32 batchHash,
        string memory payloadRef,
        bytes32[] memory contexts
    ) public {
        _emit("firefly:batch_pin", uuids, batchHash, payloadRef, contexts);
    }

    /// @notice Pins a batch from within a custom contract, in the transaction that runs it.
    /// @param data ABI encoding of the four arguments of pinBatch.
    function pinBatchData(bytes calldata data) public {
        (bytes32 uuids, bytes32 batchHash, string memory payloadRef, bytes32[] memory contexts) =
            abi.decode(data, (bytes32, bytes32, string, bytes32[]));
        _emit("firefly:contract_invoke_pin", uuids, batchHash, payloadRef, contexts);
    }

    /// @notice Records a network action, e.g. `firefly:terminate`.
    function networkAction(string memory action, string memory payload) public {
        _emit(action, 0, 0, payload, new bytes32[](0));
    }

    /// @notice The version of this interface.
    function networkVersion() public pure returns (uint8) {
        return 2;
    }

    // tx.origin, not msg.sender: a pin by way of a custom contract is still the pin of the member who signed.
    function _emit(
        string memory action,
        bytes32 uuids,
        bytes32 batchHash,
        string memory payloadRef,
        bytes32[] memory contexts
    ) private {
        emit BatchPin(tx.origin, block.timestamp, action, uuids, batchHash, payloadRef, contexts);
    }
}
