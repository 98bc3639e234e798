"""One function for each section of the page: from results to what its template shows."""
