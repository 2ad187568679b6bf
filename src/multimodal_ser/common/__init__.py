"""What all rooms share, and nothing of the field."""
