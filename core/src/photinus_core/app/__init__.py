"""The program: configuration, composition, command line, metrics."""

import os

# Before gRPC is loaded: its fork handlers run in children that the event loop forks to launch
# connectors, while gRPC's threads are busy here, and crash one of five under load.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
