"""The same networks and losses in PyTorch, as its users write them, to be timed beside ours."""
