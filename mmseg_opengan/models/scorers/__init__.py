"""Open-set scorers: one registry, one contract (``base.Scorer``), one file for each family."""
