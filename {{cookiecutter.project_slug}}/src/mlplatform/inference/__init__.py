"""What batch, online and streaming inference share: joined rows in, rows of `predictions.*` out."""
