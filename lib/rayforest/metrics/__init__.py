"""What is to be learnt, and how well it was."""
