"""Where the members of a sweep are trained: each file exports Options and run(book, options, say) -> signal or 0."""
