"""Where files live: local disks, object stores, memory."""
