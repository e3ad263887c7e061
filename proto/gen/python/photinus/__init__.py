"""Generated messages and gRPC stubs of Photinus; made by scripts/generate_protos."""
