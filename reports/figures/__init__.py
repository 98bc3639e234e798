"""One function for each figure: from results to SVG."""
