"""Our scoring beside the engines that others take: the same items, the same model."""
