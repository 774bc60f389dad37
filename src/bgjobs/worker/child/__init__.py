"""The inside of a runner: the only place where the code of jobs runs."""
