"""How many replicas a load takes: a measured replica, queueing, and a simulated autoscaler."""
