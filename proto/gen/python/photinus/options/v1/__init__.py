"""Generated from proto/photinus/options/v1; do not edit."""
