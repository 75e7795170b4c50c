"""What the model is for, in words that end up in the model card, and the baseline it has to beat.

Put here what a reader of the model card must know, and the columns whose mean label is your best guess so far.
"""

DESCRIPTION = "For each item, once it is known: the probability that its outcome is positive."
INTENDED_USE = """\
Show how the pipelines fit together, on rows that are made up. Not for any decision."""
LIMITS = """\
It knows nothing but the example: three kinds of items whose outcomes follow a simple rule, and chance."""
BASELINE = ("kind",)
