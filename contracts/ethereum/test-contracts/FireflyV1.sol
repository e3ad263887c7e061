// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Multiparty pin contract, network version 1, for tests: one contract serves all namespaces.
contract FireflyV1 {
    event BatchPin(
        address author,
        uint256 timestamp,
        string namespace,
        bytes32 uuids,
        bytes32 batchHash,
        string payloadRef,
        bytes32[] contexts
    );

    function pinBatch(
        string memory namespace,
        bytes32 uuids,
        bytes32 batchHash,
        string memory payloadRef,
        bytes32[] memory contexts
    ) public {
        emit BatchPin(msg.sender, block.timestamp, namespace, uuids, batchHash, payloadRef, contexts);
    }
}
