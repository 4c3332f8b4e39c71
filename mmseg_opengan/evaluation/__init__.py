"""Open-set numbers of a run: counted, reported, decided on open validation."""
