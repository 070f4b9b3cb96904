"""The filtering platform: which flow must be protected how, who decides, and why."""
