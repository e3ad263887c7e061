"""The core: sequences, isolates and serves; everything outside is reached through connectors."""
