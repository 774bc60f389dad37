"""What makes a worker a service of the system: the text of each system's own file, and where it goes."""
