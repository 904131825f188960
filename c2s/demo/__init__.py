"""The demo: the whole path on simulated drug responses with a known truth, and on real blood cells."""
