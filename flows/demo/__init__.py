"""`make demo-loop`: one model from its first build to a promotion under load, against the same one left alone."""
