"""What a design can show: power before a sweep, and the cheapest next step after it."""
