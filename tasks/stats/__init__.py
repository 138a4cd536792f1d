"""Statistics behind the gates and the monitoring: numpy and scipy only, no files, no models."""
