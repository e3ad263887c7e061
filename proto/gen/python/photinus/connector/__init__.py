"""Generated from proto/photinus/connector; do not edit."""
