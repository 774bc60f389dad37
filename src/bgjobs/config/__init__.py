"""The settings and the allowlist of a project, and whether other users could change them."""
