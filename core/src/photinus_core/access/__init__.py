"""Who a caller is, and what it may do: credentials, roles, and the identities that callers send as.

The decisions are pure (`credentials`, `claims`, `roles`); passwords and signing keys are kept current
by `passwords`, `keys` and `tokens`; `gate` is what the rest of the core asks.
"""
