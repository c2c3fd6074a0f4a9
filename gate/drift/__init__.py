"""Compare the stamp with the image, decide, and explain."""
