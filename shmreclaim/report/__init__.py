"""What a user reads of a result: it starts nothing and measures nothing."""
