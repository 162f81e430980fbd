"""What all stages share: claims, results, what they tell."""
