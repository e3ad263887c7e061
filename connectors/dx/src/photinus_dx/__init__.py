"""The data exchange connector: messages and blobs between members over mutual TLS."""

from photinus_dx.connector import DxConnector

__all__ = ["DxConnector"]
