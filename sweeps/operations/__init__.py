"""What the commands do with a sweep: launch, plan, status, report, cancel, judge again, ..."""
