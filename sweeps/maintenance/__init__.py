"""`adadpo fsck` and `adadpo gc`: what is damaged and repaired, what is no longer needed."""
