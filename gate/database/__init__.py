"""What the database is stamped with, who migrates it, and the lock: one module for each engine, one interface."""
