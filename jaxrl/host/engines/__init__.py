"""Where the members of a sweep are trained.

Each file exports `Options`, of which the fields with a default are flags of `jaxrl.sweep` (what stands behind one in
the source is its help; LIMITS and CHOICES of the file are checked), `crew(options)`, the members that are known before
anything is trained, and `run(book, options, say)`, the signal that ended it or 0.
"""
