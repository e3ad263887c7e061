"""The checks, one module per group; importing them all fills the catalogue."""
