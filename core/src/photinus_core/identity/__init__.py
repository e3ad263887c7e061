"""Who members are: authors and keys of what is sent, registration, DID documents."""
