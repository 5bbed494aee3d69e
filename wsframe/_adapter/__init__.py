"""What the adapters share, still free of I/O."""
