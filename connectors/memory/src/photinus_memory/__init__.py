"""All four contracts in the memory of one process: what members of a test network share."""

from photinus_memory.connector import MemoryConnector, connector_over
from photinus_memory.world import World

__all__ = ["MemoryConnector", "World", "connector_over"]
