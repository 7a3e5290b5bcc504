"""Systems that see a stream of ratings once, in order of time, and predict each before they learn it."""
