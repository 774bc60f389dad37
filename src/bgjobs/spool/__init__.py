"""The queue in a directory: jobs as files, which a rename moves from state to state (docs/internals/spool.md)."""
