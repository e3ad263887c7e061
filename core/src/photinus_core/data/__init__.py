"""Data items: JSON values, blobs, and the datatypes that values are checked against."""
