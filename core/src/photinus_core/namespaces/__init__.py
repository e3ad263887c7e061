"""Namespaces.

What one is made of, how it starts, leads, reports and stops. Each lives and fails alone.
"""
