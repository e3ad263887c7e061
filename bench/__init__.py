"""Measures a network of two members on one machine. See README.md beside this file."""
