"""Experiments on real traffic: what is known of one, what follows from it, and where that is stored."""
