"""Monitoring: from the texts, answers and labels of a window of traffic to evidence, a state and an action."""
