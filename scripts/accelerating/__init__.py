"""What `accelerator.py` does on a device: checks against float64, times, and what a precision costs."""
