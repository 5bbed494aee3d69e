"""A host: the HTTP server cheroot, given WebSocket with a copy of wsframe in ``_vendor``, which the tests make."""
