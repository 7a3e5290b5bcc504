"""What is kept: checkpoints, written whole or not at all, and the files they are made of."""
