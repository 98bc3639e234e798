"""From values to text: cells, numbers, CSV and TeX."""
