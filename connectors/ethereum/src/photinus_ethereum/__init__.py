"""The connector for EVM chains reached by JSON-RPC."""
