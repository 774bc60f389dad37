"""What may be called, and with what: read from source text, without importing it."""
