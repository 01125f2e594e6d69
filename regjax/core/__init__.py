"""The algebra of losses: batches, networks, points, stages and their expressions."""
