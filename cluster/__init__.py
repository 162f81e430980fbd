"""Where it runs: Ray clusters, and jobs submitted to them."""
