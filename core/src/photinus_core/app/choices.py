"""What the command line offers to choose from, apart from what carries it out: parsing is to be quick."""

from typing import Final

COLLECTIONS: Final = ("events", "blockchainevents", "operations", "transactions")
"""What can be pruned, in this order: transactions go when nothing names them any more."""
DRAIN_S: Final = 30.0
CLUSTER_REPLICAS: Final = 2
