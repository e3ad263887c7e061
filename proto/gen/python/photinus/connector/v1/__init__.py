"""Generated from proto/photinus/connector/v1; do not edit."""
