"""What answers requests: recommendations, neighbours, explanations; models with their ids, and what is kept of them."""
