"""Images moved to where a network's features are larger."""
