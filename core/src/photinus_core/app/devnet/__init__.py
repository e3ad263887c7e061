"""A development network on one machine: a chain and some members, for `photinus up`.

Not for production: the chain is anvil with its public keys, everything listens on loopback, and one
process watches over all others. `docs/operations.md` says how members run for real.
"""
