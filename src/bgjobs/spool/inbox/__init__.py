"""What other programs and other users hand in."""
