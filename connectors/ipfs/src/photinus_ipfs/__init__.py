"""The shared storage connector: Kubo, or a content-addressed directory with the same CIDs."""

from photinus_ipfs.connector import IpfsConnector

__all__ = ["IpfsConnector"]
