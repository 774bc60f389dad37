"""The commands, each in a file of its name: its options, and what it does with them."""
