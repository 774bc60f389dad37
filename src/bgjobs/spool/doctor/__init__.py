"""Check a spool against its rules, test the disk under it, and repair what is broken."""
