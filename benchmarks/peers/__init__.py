"""What a user would otherwise score tables with, each in its best honest form that we found."""
