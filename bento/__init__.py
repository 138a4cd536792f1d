"""What runs in production: a model folder, its predictor and the service around it, without torch."""
