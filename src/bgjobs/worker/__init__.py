"""The daemon: claim, run, finish, again; and the child processes in which jobs run."""
