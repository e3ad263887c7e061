"""Generated from proto/photinus/api; do not edit."""
