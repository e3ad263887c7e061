"""The data exchange connector: messages and blobs between members over mutual TLS."""
