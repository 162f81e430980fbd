"""What runs: one file a job, and the command line."""
