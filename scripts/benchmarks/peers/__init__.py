"""Libraries of others: they run in an environment of their own, where jaxmf isn't."""
