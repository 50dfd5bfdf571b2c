"""What stages hand to each other through the filesystem: artifacts, who makes them, how far they are."""
