"""`gate expect`: records at build time what the code of an image needs of its database."""
