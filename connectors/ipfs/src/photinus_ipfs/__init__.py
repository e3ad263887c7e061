"""The shared storage connector: Kubo, or a content-addressed directory with the same CIDs."""
