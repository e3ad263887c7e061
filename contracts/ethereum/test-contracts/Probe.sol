// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

interface IPinData {
    function pinBatchData(bytes calldata data) external;
}

/// @title Contract for the connector's own tests: state, events, structs, every kind of revert, a pinned call.
contract Probe {
    struct Item {
        uint256 id;
        string label;
        bytes data;
    }

    error TooLarge(uint256 given, uint256 max);

    event Changed(address indexed from, uint256 value);
    event Stored(uint256 indexed id, string label, bytes data, address[] watchers);

    uint256 private value;
    IPinData private pins;
    mapping(uint256 => Item) private items;

    constructor(uint256 initial, address pinContract) {
        value = initial;
        pins = IPinData(pinContract);
    }

    function set(uint256 newValue) public {
        if (newValue > 1000000) revert TooLarge(newValue, 1000000);
        require(newValue != 13, "unlucky value");
        require(newValue != 14);
        assert(newValue != 15);
        value = newValue;
        emit Changed(msg.sender, newValue);
    }

    /// Reverts when mined, not when estimated against the state before: the caller makes the estimate succeed first.
    function setAfter(uint256 expected, uint256 newValue) public {
        require(value == expected, "value has moved");
        value = newValue;
        emit Changed(msg.sender, newValue);
    }

    function setPaid(uint256 newValue) public payable {
        value = newValue + msg.value;
        emit Changed(msg.sender, value);
    }

    function setWithPin(uint256 newValue, bytes calldata data) public {
        value = newValue;
        pins.pinBatchData(data);
        emit Changed(msg.sender, newValue);
    }

    function put(Item calldata item, address[] calldata watchers) public {
        items[item.id] = item;
        emit Stored(item.id, item.label, item.data, watchers);
    }

    function get() public view returns (uint256) {
        return value;
    }

    function find(uint256 id) public view returns (Item memory item, bool found, int64 age) {
        item = items[id];
        return (item, item.id != 0, -1);
    }

    function echo(uint8 a, int256 b, bool c, bytes4 d, uint256[2][] calldata e) public pure
        returns (uint8, int256, bool, bytes4, uint256[2][] memory)
    {
        return (a, b, c, d, e);
    }
}
