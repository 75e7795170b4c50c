"""What the model is for, in words that end up in the model card, and the baseline it has to beat."""

DESCRIPTION = "Two hours before scheduled departure: the probability of arriving more than 15 minutes late."
INTENDED_USE = """\
Rank and flag flights that are likely to be late, two hours before departure, while there is time to act.
Not for decisions about single passengers or crews."""
LIMITS = """\
It knows New York's three airports in the data's span only. Cancelled and diverted flights have no label, so it
says nothing of them. Its probabilities follow the season; watch their calibration after a change of season."""
BASELINE = ("carrier", "local_hour")
