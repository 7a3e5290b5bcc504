"""From frames and files to arrays: ids, splits, padded histories."""
