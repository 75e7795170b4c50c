"""From landing files to typed, judged rows."""
