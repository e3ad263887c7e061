"""Generated from proto/photinus/api/v1; do not edit."""
