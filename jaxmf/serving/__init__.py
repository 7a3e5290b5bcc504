"""What answers requests: recommendations, neighbours, explanations; models with their ids, and how they are kept."""
