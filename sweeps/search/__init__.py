"""`search:` instead of a grid: which settings come next; and the Optuna study of every sweep."""
