"""What answers requests: recommenders, and how they are kept."""
