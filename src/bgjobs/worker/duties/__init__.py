"""What a worker does beside running jobs, a little at a time: recover, import, tidy, reload."""
