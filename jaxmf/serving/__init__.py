"""What a fitted model is asked for: recommendations, neighbours, explanations, vectors for an index."""
