"""The work, one stage a file or folder: plain functions over frozen types."""
