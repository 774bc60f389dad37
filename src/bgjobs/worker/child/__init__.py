"""The inside of a runner: the only place where the code of jobs runs.

It knows no store: neither this package nor `worker/runner.py` and `worker/protocol.py` may import `bgjobs.queue` or
`bgjobs.spool`, directly or not. The contract `running` in pyproject.toml holds that.
"""
