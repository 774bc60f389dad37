"""Hold a spool against its promises, try what it lies on, and mend what is broken."""
