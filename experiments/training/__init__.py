"""One step, many steps, many runs, many devices; the record, the checkpoints, the loop."""
