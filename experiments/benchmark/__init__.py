"""What everything costs."""
