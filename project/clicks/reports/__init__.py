"""Reports over the daily sums."""
