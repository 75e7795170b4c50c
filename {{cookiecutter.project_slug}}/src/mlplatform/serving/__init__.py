"""Online inference: a server that answers requests with the champion, from features looked up by key."""
