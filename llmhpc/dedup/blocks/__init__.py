"""The work of the methods: rows that are sorted on disk, signatures, clusters, what is cut out of a text."""
