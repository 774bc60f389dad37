"""Example jobs: small classes to run with bgjobs, and to copy from. What may run is in `allowed_jobs.toml`."""
