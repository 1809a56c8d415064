"""Named questions: what to run under which designs, and what to make of it."""
