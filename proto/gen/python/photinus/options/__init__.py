"""Generated from proto/photinus/options; do not edit."""
