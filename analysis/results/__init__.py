"""What an analysis returns: the tidy table of runs, the models of results.json and their documentation."""
