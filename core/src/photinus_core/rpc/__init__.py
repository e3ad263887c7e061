"""The gRPC services of the core: parse, call one service, map errors."""
