"""`photinus demo`: two organisations agree on a document, through the public APIs only.

One member speaks gRPC, the other REST and WebSocket. Both are told the same messages in the same
order, and find the same hashes, pins and chain transactions behind them; anything else is a
`DemoError`. The network is made for this and ended with it.
"""

from photinus_core.app.demo.run import run_demo
from photinus_core.app.demo.side import DemoError

__all__ = ["DemoError", "run_demo"]
