"""What the allowlist file says, and whom that makes a project trust."""
