"""What runs in the child processes of a migration."""
