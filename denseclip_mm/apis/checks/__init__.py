"""What is looked at before a run: config, heads, towers; and what a user's mistake is called."""
