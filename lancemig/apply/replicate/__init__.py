"""What writers do to one root, brought into the other: while it is staged, and after the flip."""
