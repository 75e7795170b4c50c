"""What the model is for, in words that end up in the model card, and the baseline it has to beat."""

DESCRIPTION = "Two hours before scheduled departure: how many minutes late the flight will arrive."
INTENDED_USE = """\
Estimate delays while there is still time to act: two hours before departure.
Not for decisions about single passengers or crews."""
LIMITS = """\
It knows New York's three airports in the data's span only. Cancelled and diverted flights have no label, so it
says nothing of them. Long delays are rare and are underestimated: it predicts a mean, not a worst case."""
BASELINE = ("carrier", "local_hour")
