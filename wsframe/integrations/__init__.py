"""wsframe inside other people's servers. Each module is for one of them, and needs it; none is imported from here."""
