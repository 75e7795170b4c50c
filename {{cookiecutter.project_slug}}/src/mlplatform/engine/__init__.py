"""What answers SQL over tables as they were known at a time."""
