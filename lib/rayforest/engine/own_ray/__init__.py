"""A Ray that rayforest starts itself: private, closed to the network, and sure to end."""
