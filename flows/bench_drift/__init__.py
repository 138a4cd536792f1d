"""`retort bench drift`: the loop from look to retrain on streams of real text, beside simpler policies."""
