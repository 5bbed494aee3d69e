"""What the adapters share of the operating system: sockets, TLS contexts, the environment. Nothing here waits."""
