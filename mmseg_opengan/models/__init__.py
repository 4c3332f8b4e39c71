"""The tap, the two networks and the two-optimizer step: registered shells over ``functional``."""
