"""The process itself: signals, threads, streams, exec."""
