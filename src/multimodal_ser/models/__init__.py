"""Parts, fusion networks and adapters."""
